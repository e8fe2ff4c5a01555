"""A worker process, as its parent process sees it, and what runs in it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from socket import socket
from typing import Final

from uvicorn import Config

from api.server.server import Server

HANG_TIMEOUT: Final = 5.0
"""Seconds after which a worker that does not answer its parent is killed."""

START_TIMEOUT: Final = 30.0
"""The same before its first response: Python and the modules have to be loaded for it."""

_PING: Final = b"ping"
_STOP: Final = b"stop"
_STOP_ALL: Final = b"stop all"

_spawn = multiprocessing.get_context("spawn")


class Worker:
    """A process that serves.

    Attributes:
        started_at: when it was started, of the monotonic clock.
        has_served: whether it has ever been ready to serve.
    """

    def __init__(self, config: Config, listener: socket) -> None:
        self._pipe, pipe = _spawn.Pipe()
        self.process = _spawn.Process(target=_serve, args=(config, listener, pipe))
        self.started_at = time.monotonic()
        self.has_served = False
        self._pinged_at = 0.0
        self._has_answered = False
        self.process.start()
        pipe.close()

    def check(self) -> None:
        """Read what it says about whether it serves, and ask again."""
        with suppress(OSError, EOFError):  # It has ended.
            while self._pipe.poll():
                self.has_served = self._pipe.recv() or self.has_served
                self._has_answered = True
                self._pinged_at = 0.0
            if not self._pinged_at:
                self._pipe.send(_PING)
                self._pinged_at = time.monotonic()

    @property
    def is_hung(self) -> bool:
        """Whether it has not answered for too long."""
        timeout = HANG_TIMEOUT if self._has_answered else START_TIMEOUT
        return bool(self._pinged_at) and time.monotonic() - self._pinged_at > timeout

    def stop(self, *, with_all: bool) -> None:
        """Start its graceful shutdown; or, a second time, hurry it up.

        Args:
            with_all: whether all workers stop, and the parent has closed the listener.
        """
        # The pipe stays open: its end tells the worker that its parent has died.
        with suppress(OSError):
            self._pipe.send(_STOP_ALL if with_all else _STOP)
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGTERM)

    def describe_end(self) -> str:
        """How it ended: by which signal, or with which exit code."""
        code = self.process.exitcode or 0
        if code >= 0:
            return f"ended with exit code {code}"
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"


def _serve(config: Config, listener: socket, pipe: Connection) -> None:
    """Serve in this process, until a signal stops it or its parent has ended."""
    config.configure_logging()
    if sys.platform != "win32":
        # A terminal that closes signals all processes. It is for the parent, which replaces this.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = _Server(config, pipe)
    threading.Thread(target=_obey, args=(server, pipe), daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.run([listener])


class _Server(Server):
    def __init__(self, config: Config, pipe: Connection) -> None:
        super().__init__(config)
        self.is_last = False
        self.is_released.clear()
        self._pipe = pipe

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start the app, then listen, then say so."""
        await super().startup(sockets)
        with suppress(OSError):
            self._pipe.send(self.started)


def _obey(server: Server, pipe: Connection) -> None:
    """Answer the parent process, as long as there is one; then stop."""
    with suppress(OSError, EOFError):
        while True:
            message = pipe.recv()
            if message == _PING:
                pipe.send(server.started)
            else:
                server.is_last = message == _STOP_ALL
                server.is_released.set()
    server.is_last = True
    server.is_released.set()
    os.kill(os.getpid(), signal.SIGTERM)
