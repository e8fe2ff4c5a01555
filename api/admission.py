"""Admission: which requests are let in, and what they pay. Both protocols call it.

The contract's order is: identity (401), budget (429), body (408, 413, 415, 400), validation (400),
work (404, 412). ``authenticate`` is the first step and ``charge`` the second; a protocol reads and
validates the body after them. In GraphQL the document is in the body and decides the cost, so there
``require_funds`` checks the budget before the document is parsed, and ``charge`` follows.

``answer_reader`` takes all steps for a request that only reads. If this process has seen the token
valid before, the first statement that reads also looks the session up. The budget is charged after
that, and before anything is sent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.types import Scope

from api.auth import Authenticator, LookupsExhausted
from api.charges import Cost, Kind
from api.errors import BudgetExceeded, Unauthenticated
from api.rate_limit.budget import Budget, address_payer, viewer_payer
from api.request import context_of
from persistence.database import Database
from persistence.errors import SessionUnconfirmed, Unavailable
from persistence.pool import UNIDENTIFIED
from persistence.sessions.checks import SessionCheck
from persistence.sessions.layouts import is_layout_outdated
from persistence.viewer import Viewer

T = TypeVar("T")


async def authenticate(
    scope: Scope, authenticator: Authenticator, budget: Budget, database: Database, cost: Cost
) -> Viewer:
    """Find the viewer of a request, and put them and the database into its context.

    From then on the database connections of the request count as the viewer's
    (``Database.share``).

    Args:
        cost: what the client's address pays if the request has no valid session.

    Raises:
        Unauthenticated: the request has no valid session; its address was charged.
        BudgetExceeded: it has none, and the budget of its address is spent.
        Unavailable: the database did not answer.
    """
    address = address_payer(scope)
    refusal = budget.cached_refusal(address, cost.kind)
    try:
        viewer = await authenticator.viewer(scope, database, address if refusal else None)
    except Unauthenticated:
        await _spend(scope, budget, address, cost)
        raise
    except LookupsExhausted:
        assert refusal is not None
        context_of(scope).charges.append(refusal.charge)
        raise refusal from None
    database.share = viewer_payer(viewer)
    context = context_of(scope)
    context.viewer = viewer
    context.database = database
    return viewer


def require_funds(scope: Scope, budget: Budget, payer: str, kind: Kind) -> None:
    """Refuse a payer whose budget is known to be spent, and report it in the response's headers.

    Makes no round trip.

    Raises:
        BudgetExceeded: not even a cost of 1 fits at the moment.
    """
    try:
        budget.require_funds(payer, kind)
    except BudgetExceeded as error:
        context_of(scope).charges.append(error.charge)
        raise


async def answer_reader(
    scope: Scope,
    authenticator: Authenticator,
    budget: Budget,
    database: Database,
    cost: Cost,
    work: Callable[[], Awaitable[T]],
) -> T:
    """Admit a request that only reads, and do its work: in one round trip if its token is known.

    Then the session is looked up together with the first row that the work reads. A request that
    such an attempt cannot answer is admitted like any other, and the work is done again: the
    session is gone or has changed, or nothing was read.

    Args:
        work: has a result that is not sent yet. It reads no body, and may be called twice.

    Raises:
        Unauthenticated: see ``authenticate``.
        BudgetExceeded: see ``charge``. Nothing that was read is sent.
    """
    check = authenticator.check(scope)
    if check and budget.cached_refusal(viewer_payer(check.viewer), cost.kind) is None:
        try:
            return await _answer_known(scope, budget, database, cost, check, work)
        except SessionUnconfirmed:
            database.check, database.share = None, UNIDENTIFIED
            context_of(scope).answering.end()
    viewer = await authenticate(scope, authenticator, budget, database, cost)
    await charge(scope, budget, viewer_payer(viewer), cost)
    return await work()


async def _answer_known(
    scope: Scope,
    budget: Budget,
    database: Database,
    cost: Cost,
    check: SessionCheck,
    work: Callable[[], Awaitable[T]],
) -> T:
    """The result of work whose first read confirms the session.

    Raises:
        SessionUnconfirmed: it is not confirmed; nothing was charged.
    """
    context = context_of(scope)
    payer = viewer_payer(check.viewer)
    context.viewer, context.database = check.viewer, database
    database.share, database.check = payer, check
    if not context.answering.begin_at_once(payer, cost.amount):
        # Only a request whose session is confirmed may wait for the viewer's earlier responses.
        raise SessionUnconfirmed
    failure: Exception | None = None
    try:
        result = await work()
    except SessionUnconfirmed:
        raise
    except Unavailable as error:
        # The table of sessions may have changed; ``authenticate`` looks at it again.
        if is_layout_outdated(error):
            raise SessionUnconfirmed from error
        if not check.is_confirmed:
            raise
        failure = error
    except Exception as error:
        failure = error
    # A part of a GraphQL operation may have met what another part did not.
    if not check.is_confirmed or check.is_refused:
        raise SessionUnconfirmed
    await _spend(scope, budget, payer, cost)
    if failure:
        raise failure
    return result


async def charge(scope: Scope, budget: Budget, payer: str, cost: Cost) -> None:
    """Charge a request to its payer, and report it in the response's headers.

    Then wait until the payer's earlier responses leave room for this one
    (``api.rate_limit.answers``).

    Raises:
        BudgetExceeded: the cost does not fit at the moment; nothing was charged.
        InvalidInput: the cost is above the limit itself, so that it never fits.
        Unavailable: too many responses to this payer are under way.
    """
    await _spend(scope, budget, payer, cost)
    await context_of(scope).answering.begin(payer, cost.amount)


async def _spend(scope: Scope, budget: Budget, payer: str, cost: Cost) -> None:
    context = context_of(scope)
    try:
        charged = await budget.spend(payer, cost, context.usage)
    except BudgetExceeded as error:
        context.charges.append(error.charge)
        raise
    finally:
        context.admitted_at = time.monotonic()
    if charged is not None:
        context.charges.append(charged)
