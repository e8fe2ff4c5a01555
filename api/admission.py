"""Admission: which requests are let in, and what they pay. Both protocols call it.

The contract's order is: identity (401), budget (429), body (408, 413, 415, 400), validation (400),
work (404, 412). ``authenticate`` is the first step and ``charge`` the second; a protocol reads and
validates the body after them. In GraphQL the document is in the body and decides the cost, so there
``require_funds`` checks the budget before the document is parsed, and ``charge`` follows.

``serve_reader`` takes all steps for a request that only reads. If this process has seen the token
valid before, the first statement that reads also looks the session up. The budget is charged after
that, and before anything is sent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Scope

from api.auth.authenticator import Authenticator
from api.auth.lookup_queues import LookupsExhausted
from api.charges import Cost, Kind
from api.errors import BudgetExceeded, Unauthenticated
from api.rate_limit.budget import Budget, address_payer, viewer_payer
from api.request import context_of
from api.state import state_of
from persistence.database import Database
from persistence.errors import SessionUnconfirmed
from persistence.pool import UNIDENTIFIED
from persistence.sessions.checks import TableSessionCheck
from persistence.sessions.layouts import is_layout_outdated
from persistence.viewer import Viewer

T = TypeVar("T")


# Not frozen: that would take four calls more for each request.
@dataclass(slots=True)
class Admission:
    """How one request is let in.

    Attributes:
        scope: the request's.
        authenticator: finds its viewer.
        budget: what it is charged to.
        database: the request's access to the database.
    """

    scope: Scope
    authenticator: Authenticator
    budget: Budget
    database: Database

    @staticmethod
    def of(scope: Scope, database: Database) -> Admission:
        """The admission of a request to the running app."""
        state = state_of(scope)
        return Admission(scope, state.authenticator, state.budget, database)

    async def authenticate(self, cost: Cost) -> Viewer:
        """Find the viewer of a request, and put them and the database into its context.

        From then on the request's connections to the database count as the viewer's
        (``Database.share``). If the token was valid before and the viewer has no request that
        waits, the look-up counts as theirs too, so that it waits for no look-up of others.

        Args:
            cost: what the client's address pays if the request has no valid session.

        Raises:
            Unauthenticated: the request has no valid session; its address was charged.
            BudgetExceeded: it has none, and the budget of its address is spent.
            Unavailable: the database did not answer.
        """
        address, refusal = address_payer(self.scope), None
        try:
            bearer = self.authenticator.bearer(self.scope)
            if known := self.authenticator.valid_before(bearer):
                if self.database.has_room(own := viewer_payer(known)):
                    self.database.share = own
            else:
                refusal = self.budget.cached_refusal(address, cost.kind)
            viewer = await self.authenticator.viewer(
                bearer, self.database, address if refusal else None
            )
        except Unauthenticated:
            self.database.share = UNIDENTIFIED
            await self._spend(address, cost)
            raise
        except LookupsExhausted:
            assert refusal is not None
            context_of(self.scope).charges.append(refusal.charge)
            raise refusal from None
        self.database.share = viewer_payer(viewer)
        context = context_of(self.scope)
        context.viewer = viewer
        context.database = self.database
        return viewer

    def require_funds(self, payer: str, kind: Kind) -> None:
        """Refuse a payer whose budget is known to be spent; the response's headers report it.

        Makes no round trip.

        Raises:
            BudgetExceeded: not even a cost of 1 fits at the moment.
        """
        try:
            self.budget.require_funds(payer, kind)
        except BudgetExceeded as error:
            context_of(self.scope).charges.append(error.charge)
            raise

    async def serve_reader(self, cost: Cost, work: Callable[[], Awaitable[T]]) -> T:
        """Admit a request that only reads, and do its work; one round trip if its token is known.

        Then the first statement that reads looks the session up as well. If that finds no session
        or a changed one, or if nothing was read, the request is admitted like any other, and the
        work is done again.

        Args:
            work: has a result that is not sent yet. It reads no body, and may be called twice.

        Raises:
            Unauthenticated: see ``authenticate``.
            BudgetExceeded: see ``charge``. Nothing that was read is sent.
        """
        session_check = self.authenticator.session_check(self.scope)
        if (
            session_check
            and self.budget.cached_refusal(viewer_payer(session_check.viewer), cost.kind) is None
        ):
            try:
                return await self._serve_known(cost, session_check, work)
            except SessionUnconfirmed:
                self.database.session_check, self.database.share = None, UNIDENTIFIED
                context_of(self.scope).slots.end()
        viewer = await self.authenticate(cost)
        await self.charge(viewer_payer(viewer), cost)
        return await work()

    async def _serve_known(
        self, cost: Cost, session_check: TableSessionCheck, work: Callable[[], Awaitable[T]]
    ) -> T:
        """The result of work whose first read confirms the session.

        Raises:
            SessionUnconfirmed: it is not confirmed; nothing was charged.
        """
        context = context_of(self.scope)
        payer = viewer_payer(session_check.viewer)
        context.viewer, context.database = session_check.viewer, self.database
        self.database.share, self.database.session_check = payer, session_check
        if not context.slots.begin_at_once(payer, cost.amount):
            # Only a request whose session is confirmed may wait for the viewer's earlier responses.
            raise SessionUnconfirmed
        failure: Exception | None = None
        try:
            result = await work()
        except SessionUnconfirmed:
            raise
        except Exception as error:
            failure = error
        # GraphQL reports what fails in its result: an outage that it met is known from here alone.
        outage = self.database.outage
        if outage and is_layout_outdated(outage):
            # The table of sessions may have changed; ``authenticate`` looks at it again.
            raise SessionUnconfirmed from outage
        # A part of a GraphQL operation may have met what another part did not.
        if session_check.is_failed:
            raise SessionUnconfirmed
        if not session_check.is_confirmed:
            raise outage or SessionUnconfirmed()
        await self._spend(payer, cost)
        if failure:
            raise failure
        return result

    async def charge(self, payer: str, cost: Cost) -> None:
        """Charge a request to its payer, and report it in the response's headers.

        Then wait until the payer's earlier responses leave room for this one
        (``api.rate_limit.response_slots``).

        Raises:
            BudgetExceeded: the cost does not fit at the moment; nothing was charged.
            InvalidInput: the cost is above the limit itself, so that it never fits.
            Unavailable: too many responses to this payer are under way.
        """
        await self._spend(payer, cost)
        await context_of(self.scope).slots.begin(payer, cost.amount)

    async def _spend(self, payer: str, cost: Cost) -> None:
        context = context_of(self.scope)
        try:
            charged = await self.budget.spend(payer, cost, context.usage)
        except BudgetExceeded as error:
            context.charges.append(error.charge)
            raise
        finally:
            context.admitted_at = time.monotonic()
        if charged is not None:
            context.charges.append(charged)
