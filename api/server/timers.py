"""Timers of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LazyTimer:
    """A time-out that is started and stopped for each request, and hardly ever ends.

    The event loop's own timer runs on meanwhile, and is only started again when it ends. One for
    each request costs 5 µs.

    Args:
        seconds: from the start to the end.
        callback: called at the end, unless the timer was stopped or started again.
    """

    __slots__ = ("_callback", "_handle", "_loop", "_seconds", "_started_at")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._callback = callback
        self._started_at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether the callback will be called."""
        return self._started_at is not None

    def start(self) -> None:
        """Start, or start again."""
        self._started_at = self._loop.time()
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._end)

    def stop(self) -> None:
        """Stop. The timer of the event loop runs on."""
        self._started_at = None

    def close(self) -> None:
        """Stop for good."""
        self._started_at = None
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _end(self) -> None:
        self._handle = None
        if self._started_at is None:
            return
        seconds_left = self._started_at + self._seconds - self._loop.time()
        if seconds_left > 0:
            self._handle = self._loop.call_later(seconds_left, self._end)
        else:
            self._started_at = None
            self._callback()
