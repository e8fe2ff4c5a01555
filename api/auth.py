"""Authentication: from the bearer token of a request to its viewer.

Reads the header; the session look-up itself is in ``persistence.sessions``.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from api.errors import Unauthenticated
from api.headers import header_values
from api.settings import Settings
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sessions.cache import SessionCache
from persistence.sessions.checks import SessionCheck
from persistence.sessions.layouts import (
    SessionLookup,
    SessionRecord,
    TableLookup,
    UnusableSessions,
    find_session_lookup,
    is_layout_outdated,
)
from persistence.sessions.tokens import parse_token
from persistence.validation import VALUE_LENGTH
from persistence.viewer import Viewer

MAX_TOKEN: Final = 4096
"""The longest bearer token that is looked up, in bytes; better-auth's have 32 or 80."""

MAX_VALID_TOKENS: Final = 10_000
"""Tokens that are remembered as valid: a hash of 32 bytes and a viewer each, about 5 MB in all."""

LOOKUP_INTERVAL: Final = 0.1
"""Seconds from the end of one look-up to the next, for an address whose budget is spent."""

MAX_WAITING: Final = 10
"""Look-ups that may wait for one such address."""

FAILURE_SECONDS: Final = 1.0
"""Seconds for which a table that was not as configured is not inspected again."""

LOOKUP_TIMEOUT: Final = 2.0
"""Seconds that a look-up waits for its turn, at most."""


class LookupsExhausted(Exception):
    """Too many unknown tokens come from one address whose budget is spent."""


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

    async def viewer(self, scope: Scope, db: Database, spent_address: str | None = None) -> Viewer:
        """The viewer of a request. One SELECT, or none if the session is cached.

        Args:
            spent_address: the address that the request comes from, if its budget is spent. Tokens
                from there that were not valid before are looked up one at a time.

        Raises:
            Unauthenticated: the request has no token, or no valid session has this token.
            LookupsExhausted: too many unknown tokens come from the spent address.
            Unavailable: the database did not answer.
            UnusableSessions: the layout of the sessions is not known yet, and cannot be read.
        """
        token = bearer_token(scope)
        digest = self._valid_tokens.digest(token)
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

    def known_viewer(self, scope: Scope) -> Viewer | None:
        """Whose session the request's token had at its last look-up, if ``check`` can confirm it.

        ``None`` if ``viewer`` has to find the session, or if sessions are cached anyway.
        """
        check = self.check(scope)
        return check.viewer if check else None

    def check(self, scope: Scope) -> SessionCheck | None:
        """The check of a known viewer's session, for the request's first read."""
        if self._lookup is None or self._lookup is not self._sessions:
            return None
        try:
            token = bearer_token(scope)
        except Unauthenticated:
            return None
        viewer = self._valid_tokens.viewer(self._valid_tokens.digest(token))
        return SessionCheck(self._lookup, token, viewer) if viewer else None

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


class ValidTokens:
    """Hashes of the tokens that had a session at their last look-up, under a key of this process.

    They only decide how a token is looked up: whether it has to wait, and whether together with a
    read. Every token is looked up again.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._viewers: OrderedDict[bytes, Viewer] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._viewers

    def viewer(self, digest: bytes) -> Viewer | None:
        """Whose session the token had; ``None`` if it had none."""
        return self._viewers.get(digest)

    def digest(self, token: bytes) -> bytes:
        """The hash of a token, 32 bytes."""
        digest = self._hash.copy()
        digest.update(token)
        return digest.digest()

    def add(self, digest: bytes, viewer: Viewer) -> None:
        """Add a token. Beyond ``MAX_VALID_TOKENS`` the least recently used one is removed."""
        self._viewers[digest] = viewer
        self._viewers.move_to_end(digest)
        if len(self._viewers) > MAX_VALID_TOKENS:
            self._viewers.popitem(last=False)

    def remove(self, digest: bytes) -> None:
        """Remove a token, if it is there."""
        self._viewers.pop(digest, None)


class LookupQueues:
    """Look-ups for addresses whose budget is spent: one at a time each, at a bounded rate."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def acquire(self, address: str) -> AsyncIterator[None]:
        """Wait until this address may look up a token, first in, first out.

        Raises:
            LookupsExhausted: too many requests wait already, or the wait was too long.
        """
        queue = self._queues.setdefault(address, _Queue())
        if queue.waiting >= MAX_WAITING:
            raise LookupsExhausted
        queue.waiting += 1
        is_next = False
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                is_next = await queue.slot.acquire()
        except TimeoutError:
            raise LookupsExhausted from None
        finally:
            queue.waiting -= 1
            is_idle = not (is_next or queue.waiting or queue.slot.locked())
            if is_idle and self._queues.get(address) is queue:
                del self._queues[address]  # Nobody is left who would remove it.
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(LOOKUP_INTERVAL, self._release, address, queue)

    def _release(self, address: str, queue: _Queue) -> None:
        queue.slot.release()
        if not queue.waiting:
            del self._queues[address]


class _Queue:
    """The slot of one address, and the number of requests that wait for it."""

    __slots__ = ("slot", "waiting")

    def __init__(self) -> None:
        self.slot = asyncio.Semaphore(1)
        self.waiting = 0


def bearer_token(scope: Scope) -> bytes:
    """The token in the ``Authorization: Bearer`` header (RFC 6750, 2.1), as it was sent.

    Raises:
        Unauthenticated: the header is missing or repeated, or its value is not a bearer token.
    """
    values = header_values(scope, b"authorization")
    if len(values) != 1:
        raise Unauthenticated
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not 1 <= len(token) <= MAX_TOKEN or b" " in token:
        raise Unauthenticated
    return token


def without_token(scope: Scope, error: bytes) -> bytes:
    """An encoded error without the request's bearer token, wherever the client had put it.

    Errors repeat parts of a request, and get into logs and screenshots. A rejected value is cut,
    so that it may end in the beginning of a token.
    """
    for value in header_values(scope, b"authorization"):
        credentials = value.partition(b" ")[2].strip()
        for token in {credentials, unquote_to_bytes(credentials), parse_token(credentials).raw}:
            if len(token) >= _MIN_SECRET and token[:_MIN_SECRET] in error:
                error = error.replace(token, _REDACTED)
                for length in range(min(len(token) - 1, VALUE_LENGTH), _MIN_SECRET - 1, -1):
                    error = error.replace(token[:length] + b'"', _REDACTED + b'"')
    return error


_MIN_SECRET: Final = 12
"""Fewer bytes are no secret: as many of a token may be seen."""

_REDACTED: Final = b"********"
