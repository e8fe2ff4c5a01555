"""Graceful shutdown: report unready, keep serving until load balancers have noticed, then stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

import uvicorn

from api.server.server import Server
from api.state import State

ECHO_SECONDS: Final = 1.0
"""Seconds in which a second SIGTERM counts as a copy of the first. A service manager signals every
process of a group, and a parent process then signals its workers once more."""

QUIET_SECONDS: Final = 0.5
"""Seconds between closing the listener and stopping, for requests on the connections that are left.
Each is closed after its next response."""

_log = logging.getLogger("twofold")

_Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def graceful_shutdown(state: State) -> Iterator[None]:
    """On SIGTERM, drain for ``settings.drain`` seconds before the server stops.

    uvicorn closes its listener at the first signal, while load balancers keep sending requests
    until they have called ``/health/ready`` again. So uvicorn's handler is called after the drain.
    SIGINT, and a SIGTERM after ``ECHO_SECONDS``, end the drain early. Does nothing if no server
    handles these signals, in tests for example.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    in_main_thread = threading.current_thread() is threading.main_thread()
    stop = handlers[signal.SIGINT]
    if not (in_main_thread and callable(handlers[signal.SIGTERM]) and callable(stop)):
        yield
        return
    drain = _Drain(state, stop)
    signal.signal(signal.SIGTERM, drain.terminate)
    signal.signal(signal.SIGINT, drain.interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Drain:
    def __init__(self, state: State, stop: _Handler) -> None:
        self._state = state
        self._stop = stop
        self._server: uvicorn.Server | None = getattr(stop, "__self__", None)
        self._loop = asyncio.get_running_loop()
        self._is_urgent = asyncio.Event()
        self._started_at = 0.0
        self._interrupts = 0
        self._task: asyncio.Task[None] | None = None

    def terminate(self, number: int, frame: FrameType | None) -> None:
        if self._start() > ECHO_SECONDS:
            self._loop.call_soon_threadsafe(self._is_urgent.set)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self._start()
        self._loop.call_soon_threadsafe(self._is_urgent.set)
        self._interrupts += 1
        if self._interrupts > 1:
            # The second call makes uvicorn stop at once.
            self._stop(signal.SIGINT, frame)
            self._stop(signal.SIGINT, frame)

    def _start(self) -> float:
        """Start to drain at the first signal. Returns the seconds since then."""
        if not self._state.draining:
            self._state.draining = True
            self._started_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._create_task)
        return time.monotonic() - self._started_at

    def _create_task(self) -> None:
        self._task = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        seconds = self._state.settings.drain
        if seconds and not self._is_urgent.is_set():
            _log.info("draining: not ready any more, and stopping in %g s", seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_urgent.wait(), seconds)
        # uvicorn would close the listener together with connections that it has just accepted and
        # not read from yet. Measured on SIGHUP under load: 4 of 8,693 requests were lost.
        if isinstance(self._server, Server):
            await self._server.stop_accepting()
            # Not before: clients of streams connect again, and have to reach another instance.
            self._state.live.cut()
            await self._until_quiet()
        elif self._server and seconds:  # Not in `twofold dev`: a person waits for the reload.
            for listener in self._server.servers:
                listener.close()
            self._state.live.cut()
            await self._until_quiet()
        self._state.live.cut()
        # Not SIGTERM: uvicorn raises it again at the end, which makes the exit code -15.
        self._stop(signal.SIGINT, None)

    async def _until_quiet(self) -> None:
        """Wait until there is no connection any more, for ``QUIET_SECONDS`` at most."""
        until = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < until:
            await asyncio.sleep(0.05)
            if self._server and not self._server.server_state.connections:
                return
