"""From a request's bearer token to the viewer. Knows headers; the look-up is persistence's."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import Scope

from api.errors import Unauthenticated
from api.headers import header_values
from api.settings import Settings
from persistence.database import Database
from persistence.sessions.cache import SessionCache
from persistence.sessions.layouts import SessionLookup, SessionRecord, find_session_lookup
from persistence.viewer import Viewer

MAX_TOKEN: Final = 4096
"""The longest bearer token that is looked up, in bytes; better-auth's have 32 or 80."""


MAX_GOOD_TOKENS: Final = 10_000
"""Tokens that are remembered as good: a hash of 32 bytes each, about 2 MB in all."""

LOOKUP_INTERVAL: Final = 0.1
"""Seconds from the end of one look-up to the next, for an address whose budget is spent."""

MAX_WAITING: Final = 10
"""Look-ups that wait at such an address; at most ``LOOKUP_PATIENCE`` seconds."""

LOOKUP_PATIENCE: Final = 2.0


class LookupsExhausted(Exception):
    """Too many unknown tokens come from one address whose budget is spent."""


class Authenticator:
    """Tells who is asking, by the auth server's sessions in whichever layout it keeps them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions: SessionLookup | None = None
        self._good = GoodTokens()
        self._lookups = Lookups()

    async def viewer(self, scope: Scope, db: Database, spent_address: str | None = None) -> Viewer:
        """The viewer of a request. One SELECT, or none where sessions are remembered.

        Args:
            spent_address: where the request comes from, if the budget of that address is spent.
                From there, tokens that were not good before are looked up one at a time.

        Raises:
            Unauthenticated: there is no token, or no session with it counts.
            LookupsExhausted: too many unknown tokens come from the spent address.
            Unavailable: the database could not be asked.
            UnusableSessions: the layout is still to be found, and cannot be.
        """
        token = bearer_token(scope)
        digest = self._good.digest(token)
        if spent_address is None or digest in self._good:
            session = await self._look_up(db, token)
        else:
            async with self._lookups.turn(spent_address):
                session = await self._look_up(db, token)
        if session is None:
            self._good.forget(digest)
            raise Unauthenticated
        self._good.remember(digest)
        return session.viewer

    async def _look_up(self, db: Database, token: bytes) -> SessionRecord | None:
        sessions = self._sessions or await self.find_sessions(db)
        return await sessions.find(db, token)

    async def find_sessions(self, db: Database) -> SessionLookup:
        """Look at the auth server's table, unless that was done before.

        Raises:
            UnusableSessions: the table is not as configured.
            Unavailable: the database could not be asked; the next call tries again.
        """
        # No lock: requests that waited for one another's look would wait beyond their deadlines.
        if self._sessions is None:
            secret = self._settings.session_hash_secret
            sessions = await find_session_lookup(
                db,
                self._settings.session_store,
                table=self._settings.session_table,
                hash_secret=secret.get_secret_value().encode() if secret else b"",
                signing_secrets=self._settings.signing_secrets,
            )
            seconds = self._settings.session_cache_seconds
            self._sessions = SessionCache(sessions, seconds) if seconds else sessions
        return self._sessions


class GoodTokens:
    """Hashes, under a key of this process, of tokens that had a session when last looked up.

    They are looked up again all the same: this only tells whose look-up need not wait.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def digest(self, token: bytes) -> bytes:
        """The hash under which a token is remembered."""
        return hashlib.blake2b(token, key=self._key, digest_size=32).digest()

    def remember(self, digest: bytes) -> None:
        """The token has a session. Beyond ``MAX_GOOD_TOKENS`` the one used least recently goes."""
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > MAX_GOOD_TOKENS:
            self._digests.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """The token has no session, or none any more."""
        self._digests.pop(digest, None)


class Lookups:
    """Look-ups for addresses whose budget is spent: one at a time each, at a bounded rate."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for this address's turn, first in, first out.

        Raises:
            LookupsExhausted: too many wait already, or it takes too long.
        """
        line = self._lines.setdefault(address, _Line())
        if line.waiting >= MAX_WAITING:
            raise LookupsExhausted
        line.waiting += 1
        try:
            async with asyncio.timeout(LOOKUP_PATIENCE):
                await line.turn.acquire()
        except TimeoutError:
            raise LookupsExhausted from None
        finally:
            line.waiting -= 1
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(LOOKUP_INTERVAL, self._end, address, line)

    def _end(self, address: str, line: _Line) -> None:
        line.turn.release()
        if not line.waiting:
            del self._lines[address]


class _Line:
    """One address's turn, and how many wait for it."""

    __slots__ = ("turn", "waiting")

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(1)
        self.waiting = 0


def bearer_token(scope: Scope) -> bytes:
    """The token of the one ``Authorization: Bearer`` header (RFC 6750, 2.1), as it was sent.

    Raises:
        Unauthenticated: there is none, or more than one, or it is no token.
    """
    values = header_values(scope, b"authorization")
    if len(values) != 1:
        raise Unauthenticated
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not 1 <= len(token) <= MAX_TOKEN or b" " in token:
        raise Unauthenticated
    return token
