"""The control for every bound in seconds: how slow the machine itself is during a test.

A trivial server in a process of its own answers a new connection again and again. What that takes
is the machine's doing: both our event loop and another process had to be scheduled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

GIVE_UP: Final = 300.0
"""Seconds after which a wait is given up. Nothing is judged by it: it ends a test that hangs."""

_EVERY: Final = 0.05

_FACTOR: Final = 3
"""How many times slower than the control something may be; a request takes several turns."""


class Control:
    """The control while it runs.

    Attributes:
        slowest: the longest that the trivial server took so far, in seconds.
        server: the trivial server's process id.
    """

    def __init__(self, server: int) -> None:
        self.slowest = 0.0
        self.server = server

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Control]:
        """Measure for as long as the block lasts."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVER,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        control = cls(process.pid)
        measuring = asyncio.create_task(control._measure(port))
        try:
            yield control
        finally:
            measuring.cancel()
            process.stdin.close()
            await process.wait()

    def bound(self, seconds: float) -> float:
        """The bound on this machine of what takes at most so many seconds on an idle one."""
        return seconds + _FACTOR * self.slowest

    async def _measure(self, port: int) -> None:
        while True:
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"\n")
                await reader.read()
            finally:
                writer.close()
            self.slowest = max(self.slowest, time.monotonic() - began)
            # A sleep that ends late counts as well.
            due = time.monotonic() + _EVERY
            await asyncio.sleep(_EVERY)
            self.slowest = max(self.slowest, time.monotonic() - due)


# It ends with its parent, whose end of the pipe is closed then.
_SERVER: Final = """
import asyncio, os, sys, threading

async def answer(reader, writer):
    await reader.readline()
    writer.write(b"answer")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
asyncio.run(main())
"""
