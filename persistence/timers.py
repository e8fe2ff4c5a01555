"""Time-outs that are started often and hardly ever end: one timer of the event loop for all.

A timer of the event loop costs 5 µs of CPU. One that runs on costs nothing, and is only started
again when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


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
    """``asyncio.timeout`` for one block after another, never for two at the same time.

    Raises:
        TimeoutError: the block took longer than ``seconds``, which is set before each.
    """

    __slots__ = ("_cancelling", "_is_expired", "_task", "_timer", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = 0.0
        self._timer = LazyTimer(loop, self._expire)
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._is_expired = False

    def __enter__(self) -> Self:
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._is_expired = False
        self._timer.start(self.seconds)
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.stop()
        task, self._task = self._task, None
        assert task is not None
        # As in ``asyncio.timeout``: somebody else may have cancelled the task as well.
        is_own = self._is_expired and task.uncancel() <= self._cancelling
        if is_own and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def close(self) -> None:
        """Stop the timer of the event loop."""
        self._timer.close()

    def _expire(self) -> None:
        if self._task is not None:
            self._is_expired = True
            self._task.cancel()
