"""A time-out for calls to a server, on an event loop that may stall."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Self

TICKS: Final = 20
"""Parts of a time-out. The event loop runs at least half as many times before the time-out."""


class ResponsiveTimeout:
    """A time-out that does not count the time in which the event loop is blocked.

    After a stall, ``asyncio.timeout`` fires in the loop iteration that reads a reply which arrived
    long ago, or before it. Measured: of 40 replies that Redis had sent in less than a millisecond,
    none was in time beside a callback that takes 600 ms. A reply on an open connection needs three
    iterations, one on a new connection about fifteen.

    Args:
        seconds: how long the block may take.

    Raises:
        TimeoutError: the block took longer, or ``expire`` was called.
    """

    __slots__ = ("_last_tick", "_left", "_loop", "_tick", "_timeout", "_timer")

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._tick = seconds / TICKS

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._last_tick = time.monotonic()
        self._timer = self._loop.call_later(self._tick, self._count)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def expire(self) -> None:
        """End the block now, unless it has ended."""
        # A time-out that has just expired cannot be rescheduled.
        if not self._timeout.expired():
            self._timeout.reschedule(self._loop.time())

    def _count(self) -> None:
        now = time.monotonic()
        self._left -= min(now - self._last_tick, 2 * self._tick)
        self._last_tick = now
        if self._left > 0:
            self._timer = self._loop.call_later(min(self._tick, self._left), self._count)
        else:
            self.expire()
