"""One open stream: a position in a person's changes, and whether there may be more after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from api.errors import Unauthenticated
from persistence.feeds import Changes
from persistence.sync_tokens import SyncToken
from persistence.viewer import Viewer

PAGE: Final = 100
"""The most tasks of one event."""


class Look(NamedTuple):
    """What was read for a person.

    Attributes:
        changes: after one position.
        sessions: whether each of these bearer tokens had its session after that.
    """

    changes: Changes
    sessions: dict[bytes, bool]


class Stream:
    """A stream of one client. It keeps no queue: a slow reader gets fewer and larger events.

    Args:
        viewer: whose changes they are.
        bearer: the token of their session.
        position: what the client has.
        read: reads what changed after a position, for a stream.
    """

    def __init__(
        self,
        viewer: Viewer,
        bearer: bytes,
        position: SyncToken,
        read: Callable[[Stream], Awaitable[Look]],
    ) -> None:
        self.viewer = viewer
        self.bearer = bearer
        self.position = position
        self._read = read
        self._wake = asyncio.Event()
        self._wake.set()
        self._end: Exception | None = None

    def wake(self) -> None:
        """There may be changes after the position."""
        self._wake.set()

    def end(self, reason: Exception) -> None:
        """Nothing may be sent any more; ``next`` raises the reason."""
        self._end = self._end or reason
        self._wake.set()

    async def next(self, seconds: float) -> Changes | None:
        """The next changes; ``None`` if there are none for so long, or none could be read.

        Raises:
            Unauthenticated: the session has ended.
            SyncTokenExpired: the position is not known any more.
            StreamCut: the client has to connect again.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            try:
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
            except TimeoutError:
                return None
            self._require_open()
            self._wake.clear()
            try:
                async with asyncio.timeout_at(until) as deadline:
                    look = await self._read(self)
            except TimeoutError:
                if not deadline.expired():
                    raise
                # The database may be away. The next call waits for the same read.
                self._wake.set()
                return None
            # It may have been ended meanwhile.
            self._require_open()
            if not look.sessions[self.bearer]:
                raise Unauthenticated
            self.position = look.changes.token
            if look.changes.has_more:
                self._wake.set()
            if look.changes.tasks:
                return look.changes

    def _require_open(self) -> None:
        if self._end:
            raise self._end
