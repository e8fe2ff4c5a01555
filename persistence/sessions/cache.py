"""A cache of sessions, for deployments that accept a delayed sign-out to save a round trip."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import Final, NamedTuple

from persistence.clock import elapsed
from persistence.database import Database
from persistence.sessions.lookups import SessionLookup, SessionRecord

ENTRIES: Final = 10_000
"""The most sessions that are cached. The least recently used one leaves first."""


class _Entry(NamedTuple):
    session: SessionRecord
    until: float


class SessionCache:
    """Sessions that are looked up once and then reused for some seconds.

    A session that is revoked meanwhile stays valid until its entry expires, in this process. A
    session that ends meanwhile does not. The cache has no tokens, only hashes of them under a key
    that is made at start. It does not cache that a token is invalid.

    Args:
        lookup: reads a session that is not cached.
        seconds: how long an entry is valid, at most ``MAX_SECONDS_LEFT``. Using an entry does not
            extend it.
    """

    def __init__(self, lookup: SessionLookup, seconds: float) -> None:
        self._lookup = lookup
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    async def find(self, db: Database, token: bytes) -> SessionRecord | None:
        """See ``SessionLookup.find``; ``seconds_left`` counts from the time of the lookup."""
        digest = hashlib.blake2b(token, key=self._key, digest_size=32).digest()
        # Take the time before the query, so that an entry cannot outlive its session.
        started_at = elapsed()
        cached = self._entries.get(digest)
        if cached and started_at < cached.until:
            self._entries.move_to_end(digest)
            return cached.session
        # Concurrent requests do not share a lookup: each has a deadline of its own.
        session = await self._lookup.find(db, token)
        self._entries.pop(digest, None)
        if session:
            self._add(digest, session, started_at)
        return session

    def _add(self, digest: bytes, session: SessionRecord, started_at: float) -> None:
        until = started_at + min(self._seconds, session.seconds_left)
        self._entries[digest] = _Entry(session, until)
        if len(self._entries) > ENTRIES:
            self._entries.popitem(last=False)
