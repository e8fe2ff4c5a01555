"""Authentication: from the bearer token of a request to its viewer.

The session look-up itself is in ``persistence.sessions``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.types import Scope

from api.auth.bearer_token import bearer_token
from api.auth.lookup_queues import LookupQueues
from api.auth.valid_tokens import ValidTokens
from api.errors import Unauthenticated
from api.settings import Settings
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sessions.cache import SessionCache
from persistence.sessions.checks import TableSessionCheck
from persistence.sessions.layouts import find_session_lookup, is_layout_outdated
from persistence.sessions.lookups import SessionLookup, SessionRecord, TableLookup
from persistence.sessions.store import UnusableSessions
from persistence.viewer import Viewer

FAILURE_SECONDS: Final = 1.0
"""Seconds for which a table that was not as configured is not inspected again."""


class Bearer(NamedTuple):
    """The token of a request, and its hash in this process."""

    token: bytes
    digest: bytes


class Authenticator:
    """Finds the viewer of a request in the auth server's sessions, in any supported layout."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lookup: TableLookup | None = None
        self._sessions: SessionLookup | None = None
        self._failure: UnusableSessions | None = None
        self._failed_at = 0.0
        self._inspection: asyncio.Task[SessionLookup] | None = None
        self._valid_tokens = ValidTokens()
        self._lookups = LookupQueues()

    def bearer(self, scope: Scope) -> Bearer:
        """The token of a request.

        Raises:
            Unauthenticated: there is none.
        """
        token = bearer_token(scope)
        return Bearer(token, self._valid_tokens.digest(token))

    async def viewer(
        self, bearer: Bearer, db: Database, spent_address: str | None = None
    ) -> Viewer:
        """The viewer of a request. One SELECT, or none if the session is cached.

        Args:
            spent_address: the address that the request comes from, if its budget is spent. Tokens
                from there that were not valid before are looked up one at a time.

        Raises:
            Unauthenticated: no valid session has this token.
            LookupsExhausted: too many unknown tokens come from the spent address.
            Unavailable: the database did not answer.
            UnusableSessions: the layout of the sessions is not known yet, and cannot be read.
        """
        token, digest = bearer
        if spent_address is None or digest in self._valid_tokens:
            session = await self._look_up(db, token)
        else:
            async with self._lookups.acquire(spent_address):
                session = await self._look_up(db, token)
        if session is None:
            self._valid_tokens.remove(digest)
            raise Unauthenticated
        self._valid_tokens.add(digest, session.viewer)
        return session.viewer

    async def viewers(self, db: Database, tokens: Sequence[bytes]) -> list[Viewer | None]:
        """Whose sessions these tokens have now, in their order; one SELECT, never from a cache.

        Raises:
            Unavailable: the database did not answer.
            UnusableSessions: the layout of the sessions cannot be read.
        """
        if self._lookup is None:
            await self._find_sessions(db)
        assert self._lookup is not None
        try:
            sessions = await self._lookup.find_many(db, tokens)
        except Unavailable as error:
            if is_layout_outdated(error):
                self._forget(self._sessions)
            raise
        return [session and session.viewer for session in sessions]

    def valid_before(self, bearer: Bearer) -> Viewer | None:
        """Whose session the token had at its last look-up; ``None`` if it had none."""
        return self._valid_tokens.viewer(bearer.digest)

    def known_viewer(self, scope: Scope) -> Viewer | None:
        """Whose session the token had at its last look-up, if ``session_check`` can confirm it.

        ``None`` if ``viewer`` has to find the session, or if sessions are cached anyway.
        """
        session_check = self.session_check(scope)
        return session_check.viewer if session_check else None

    def session_check(self, scope: Scope) -> TableSessionCheck | None:
        """The check of a known viewer's session, for the request's first read."""
        if self._lookup is None or self._lookup is not self._sessions:
            return None
        try:
            token = bearer_token(scope)
        except Unauthenticated:
            return None
        viewer = self._valid_tokens.viewer(self._valid_tokens.digest(token))
        return TableSessionCheck(self._lookup, token, viewer) if viewer else None

    async def _look_up(self, db: Database, token: bytes) -> SessionRecord | None:
        sessions = self._sessions or await self._find_sessions(db)
        try:
            return await sessions.find(db, token)
        except Unavailable as error:
            if not is_layout_outdated(error):
                raise
            self._forget(sessions)
        sessions = self._sessions or await self._find_sessions(db)
        return await sessions.find(db, token)

    def _forget(self, sessions: SessionLookup | None) -> None:
        # Unless another request has found the new layout meanwhile.
        if self._sessions is sessions:
            self._lookup = self._sessions = None

    async def check_sessions(self, db: Database) -> str:
        """Check that sessions can be read now. One SELECT, or two if the layout is not known yet.

        Returns:
            the auth server's table, as SQL writes it.

        Raises:
            UnusableSessions: the table is not as configured.
            Unavailable: the database did not answer.
        """
        if lookup := self._lookup:
            try:
                await db.read(lookup.statement, **dict.fromkeys(lookup.statement.parameters, ""))
            except Unavailable as error:
                if not is_layout_outdated(error):
                    raise
                self._forget(self._sessions)
        if self._lookup is None:
            await self._find_sessions(db)
        assert self._lookup is not None
        return self._lookup.table

    async def _find_sessions(self, db: Database) -> SessionLookup:
        """Inspect the auth server's table, at most once a second while it is not as configured.

        Requests that need it at the same time share one inspection. Each keeps its own deadline.

        Raises:
            UnusableSessions: the table is not as configured.
            Unavailable: the database did not answer; the next call tries again.
        """
        while True:
            if self._failure and time.monotonic() - self._failed_at < FAILURE_SECONDS:
                raise self._failure.with_traceback(None)
            inspection = self._inspection
            if inspection is None:
                # A task, because this request may be cancelled and others wait for it as well.
                inspection = self._inspection = asyncio.create_task(self._inspect(db))
                inspection.add_done_callback(self._end_inspection)
                return await asyncio.shield(inspection)
            await db.wait(inspection)
            try:
                return inspection.result()
            except Unavailable as error:
                # The deadline of the request that began it may have passed before this one's.
                if not isinstance(error.__cause__, TimeoutError):
                    raise

    def _end_inspection(self, inspection: asyncio.Task[SessionLookup]) -> None:
        self._inspection = None
        if not inspection.cancelled():
            inspection.exception()  # Read here, because every request may have been cancelled.

    async def _inspect(self, db: Database) -> SessionLookup:
        try:
            lookup = await find_session_lookup(
                db,
                self._settings.session_store,
                table=self._settings.session_table,
                hash_secrets=self._settings.hash_secrets,
                signing_secrets=self._settings.signing_secrets,
            )
        except UnusableSessions as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise
        seconds = self._settings.session_cache_seconds
        self._failure = None
        self._lookup = lookup
        self._sessions = SessionCache(lookup, seconds) if seconds else lookup
        return self._sessions
