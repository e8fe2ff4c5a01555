"""Admission: which requests are let in, and what they pay. Both protocols call it.

The contract's order is: identity (401), budget (429), body (408, 413, 415, 400), validation (400),
work (404, 412). ``authenticate`` is the first step and ``charge`` the second; a protocol reads and
validates the body after them. In GraphQL the document is in the body and decides the cost, so there
``require_funds`` checks the budget before the document is parsed, and ``charge`` follows.
"""

from __future__ import annotations

from starlette.types import Scope

from api.auth import Authenticator, LookupsExhausted
from api.errors import BudgetExceeded, Unauthenticated
from api.rate_limit.budget import Budget, Cost, Kind, address_payer, viewer_payer
from api.request import context_of
from persistence.database import Database
from persistence.viewer import Viewer


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
    try:
        charged = await budget.spend(payer, cost)
    except BudgetExceeded as error:
        context_of(scope).charges.append(error.charge)
        raise
    if charged is not None:
        context_of(scope).charges.append(charged)
