"""The time between being told to stop and stopping, in which nobody is turned away."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.state import State, state_of

ECHO_SECONDS: Final = 1.0
"""A second SIGTERM within this time is the first one again: a service manager tells every process
of a group, and uvicorn's parent process then tells its workers, up to half a second later."""

QUIET_SECONDS: Final = 0.5
"""Between closing the listener and stopping, so that whoever was let in last can still ask."""

_log = logging.getLogger("twofold")

_Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def draining(state: State) -> Iterator[None]:
    """While the app runs: drain on SIGTERM, and only then let the server stop.

    uvicorn closes its listener as soon as it is told to stop, while load balancers go on sending
    for as long as they have not asked ``/health/ready`` again. So its handler has to wait. SIGINT,
    and a SIGTERM after ``ECHO_SECONDS``, end the drain early. Does nothing where nobody handles
    these signals, in tests for example.
    """
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    in_main_thread = threading.current_thread() is threading.main_thread()
    server = found[signal.SIGINT]
    if not (in_main_thread and callable(found[signal.SIGTERM]) and callable(server)):
        yield
        return
    drain = _Drain(state, server)
    signal.signal(signal.SIGTERM, drain.terminate)
    signal.signal(signal.SIGINT, drain.interrupt)
    try:
        yield
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)


class _Drain:
    def __init__(self, state: State, server: _Handler) -> None:
        self._state = state
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._over = False

    def terminate(self, number: int, frame: FrameType | None) -> None:
        if not self._state.draining:
            self._state.draining = True
            self._began = time.monotonic()
            self._loop.call_soon_threadsafe(self._begin)
        elif time.monotonic() - self._began > ECHO_SECONDS:
            self._end()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self._state.draining = True
        if self._over:
            self._server(number, frame)  # The second one makes uvicorn leave at once.
        self._end()

    def _begin(self) -> None:
        seconds = self._state.settings.drain
        if seconds:
            _log.info("draining: not ready any more, and stopping in %g s", seconds)
            self._loop.call_later(seconds, self._close_listener)
        else:
            self._end()

    def _close_listener(self) -> None:
        # uvicorn closes it together with the connections that it let in a moment ago, of which it
        # may not have read anything yet: on SIGHUP 4 of 8,693 requests under load were lost so.
        for listener in getattr(getattr(self._server, "__self__", None), "servers", ()):
            listener.close()
        self._loop.call_later(QUIET_SECONDS, self._end)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            # Not SIGTERM: uvicorn would raise that again at the end, and the exit code were -15.
            self._server(signal.SIGINT, None)


class Farewell:
    """Sends clients that keep their connection elsewhere with their next request, while draining.

    A connection that is closed by the server when it stops may just have been written to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _is_draining(scope):
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, closing)


def _is_draining(scope: Scope) -> bool:
    """False as well where the app serves without its lifespan, as some tests let it."""
    return hasattr(scope["app"].state, "twofold") and state_of(scope).draining
