"""Believing a session for a few seconds, where that is worth a later sign-out."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from persistence.database import Database
from persistence.sessions.layouts import Session, Sessions

ENTRIES: Final = 10_000
"""How many sessions are remembered at most; then whoever was away longest is forgotten."""


elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""Seconds since some moment, those included that the machine slept, where it can tell them."""


class _Remembered(NamedTuple):
    session: Session
    until: float


class RememberedSessions:
    """Sessions that are asked for once, and then believed for some seconds.

    What is revoked meanwhile counts until then, in this process; what has ended does not.
    Tokens are not kept, only hashes of them under a key that no one else knows. That a token
    counts for nothing is not remembered.

    Args:
        sessions: where they are looked up.
        seconds: for how long one is believed, at most ``FORESIGHT``.
    """

    def __init__(self, sessions: Sessions, seconds: float) -> None:
        self._sessions = sessions
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    async def session(self, db: Database, token: bytes) -> Session | None:
        """See ``Sessions.session``; ``seconds_left`` is of when it was looked up."""
        digest = hashlib.blake2b(token, key=self._key, digest_size=32).digest()
        # Before it is asked: what the database answers was true then or later, so a session that
        # lasts so long from here has not ended by the database's clock either.
        asked_at = elapsed()
        known = self._remembered.get(digest)
        if known and asked_at < known.until:
            self._remembered.move_to_end(digest)
            return known.session
        # Nobody waits for another's look-up: each has a deadline of its own.
        session = await self._sessions.session(db, token)
        self._remembered.pop(digest, None)
        if session:
            self._remember(digest, session, asked_at)
        return session

    def _remember(self, digest: bytes, session: Session, asked_at: float) -> None:
        until = asked_at + min(self._seconds, session.seconds_left)
        self._remembered[digest] = _Remembered(session, until)
        if len(self._remembered) > ENTRIES:
            self._remembered.popitem(last=False)
