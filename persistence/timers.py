"""Time-outs that are started often and hardly ever end: one timer of the event loop for all.

A timer of the event loop costs 5 µs of CPU. One that runs on costs nothing, and is only started
again when it ends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType


class LazyTimer:
    """Calls a function at a time that is put off again and again.

    Args:
        callback: called when the time has come, unless the timer was stopped or started again.
    """

    __slots__ = ("_callback", "_ends_at", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback
        self._ends_at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether the function will be called."""
        return self._ends_at is not None

    def start(self, seconds: float) -> None:
        """Start, or start again."""
        self._ends_at = ends_at = self._loop.time() + seconds
        if self._handle is not None:
            if self._handle.when() <= ends_at:
                return
            self._handle.cancel()
        self._handle = self._loop.call_at(ends_at, self._end)

    def stop(self) -> None:
        """Stop. The timer of the event loop runs on."""
        self._ends_at = None

    def close(self) -> None:
        """Stop, and stop the timer of the event loop."""
        self._ends_at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _end(self) -> None:
        self._handle = None
        ends_at = self._ends_at
        if ends_at is None:
            return
        if ends_at > self._loop.time():
            self._handle = self._loop.call_at(ends_at, self._end)
        else:
            self._ends_at = None
            self._callback()


class LazyTimeout:
    """``asyncio.timeout``, whose blocks share the timer of their event loop.

    Args:
        seconds: how long the block may take.

    Raises:
        TimeoutError: the block took longer.
    """

    __slots__ = ("_blocks", "_cancelling", "_is_expired", "_seconds", "_task", "ends_at")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_expired = False
        self.ends_at = math.inf

    def __enter__(self) -> None:
        blocks = self._blocks = _running_blocks()
        task = self._task = asyncio.current_task(blocks.loop)
        assert task is not None
        self._cancelling = task.cancelling()
        self.ends_at = blocks.loop.time() + self._seconds
        blocks.running.add(self)
        if self.ends_at < blocks.wakes_at:
            blocks.wake_at(self.ends_at)

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = self._task
        assert task is not None
        self._blocks.running.discard(self)
        # As in ``asyncio.timeout``: somebody else may have cancelled the task as well.
        is_own = self._is_expired and task.uncancel() <= self._cancelling
        if is_own and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def expire(self) -> None:
        """End the block."""
        assert self._task is not None
        self._is_expired = True
        self._task.cancel()


class _Blocks:
    """The blocks of one event loop that are running, and the timer of the earliest end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.running: set[LazyTimeout] = set()
        self.wakes_at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def wake_at(self, time: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.wakes_at = time
        self._handle = self.loop.call_at(time, self._wake)

    def _wake(self) -> None:
        self._handle = None
        self.wakes_at = math.inf
        now = self.loop.time()
        for block in [block for block in self.running if block.ends_at <= now]:
            self.running.discard(block)
            block.expire()
        if self.running:
            self.wake_at(min(block.ends_at for block in self.running))


_latest: _Blocks | None = None


def _running_blocks() -> _Blocks:
    loop = asyncio.get_running_loop()
    # A process serves on one event loop. Another one, as tests have, gets blocks of its own.
    global _latest
    if _latest is None or _latest.loop is not loop:
        _latest = _Blocks(loop)
    return _latest
