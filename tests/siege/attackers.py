"""A real server in a process of its own, raw connections to it, and what it costs it."""

from __future__ import annotations

import asyncio
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.servers import COMMAND, served

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(slots=True)
class Target:
    """A server under attack."""

    client: httpx.AsyncClient
    process: psutil.Process
    port: int
    log: Path
    connections: list[socket.socket]

    @classmethod
    @asynccontextmanager
    async def on(
        cls, database_url: str, folder: Path, before: str = "", **environment: str
    ) -> AsyncIterator[Target]:
        """Start one.

        Args:
            before: a shell command to run in its process first.
        """
        log = folder / "log"
        shell = f'{before or ":"}; exec "$@" 2>"$LOG"'
        command = ("sh", "-c", shell, "sh", *COMMAND)
        async with served(database_url, *command, LOG=str(log), **environment) as (client, process):
            port = client.base_url.port
            assert port is not None
            target = cls(client, psutil.Process(process.pid), port, log, [])
            try:
                yield target
            finally:
                for connection in target.connections:
                    connection.close()

    @property
    def memory(self) -> int:
        """Resident memory, in bytes."""
        return int(self.process.memory_info().rss)

    @property
    def descriptors(self) -> int:
        """Open file descriptors."""
        return int(self.process.num_fds())

    def lines(self) -> list[str]:
        """The log."""
        return self.log.read_text().splitlines()

    def connect(self, taking: int | None = None) -> socket.socket:
        """A connection that does not block.

        Args:
            taking: how many bytes the client's kernel takes ahead, about.
        """
        connection = socket.socket()
        self.connections.append(connection)
        if taking:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
        connection.connect(("127.0.0.1", self.port))
        connection.setblocking(False)
        return connection

    async def latencies(self, seconds: float) -> list[float]:
        """How long each of an honest client's requests took, one after another, in seconds."""
        latencies = []
        until = time.monotonic() + seconds
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(HEALTH)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            latencies.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        return latencies

    async def until(self, descriptors: int, seconds: float) -> None:
        """Wait until no more file descriptors are open than so many."""
        async with asyncio.timeout(seconds):
            while self.descriptors > descriptors:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)


def reset(connection: socket.socket) -> None:
    """Close a connection at once, by RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def send(connection: socket.socket, data: bytes) -> int:
    """Send what the network takes at the moment. Returns its length, or -1 when it is closed."""
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return -1


def slower(attacked: list[float], control: list[float]) -> float:
    """How many times slower the median request was. Other load on the machine makes it more."""
    return statistics.median(attacked) / statistics.median(control)
