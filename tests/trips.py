"""A proxy in front of PostgreSQL that counts round trips, and can delay them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

# After these a client waits for the server: Sync, Query, Flush, and each part of a password.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
_WAITING: Final = (b"S", b"Q", b"H", b"p")

_CANCEL: Final = (80877102).to_bytes(4)


class TripCounter:
    """The proxy. It counts the messages after which a client waits for the server.

    Attributes:
        url: of the database through the proxy.
        count: the round trips so far of all connections, without those of TCP itself.
        connections: how many were opened so far.
        delay: seconds that are added to each round trip, and to opening a connection.
    """

    def __init__(self, url: str, delay: float) -> None:
        self.url = url
        self.count = 0
        self.connections = 0
        self.delay = delay
        self._clients: set[asyncio.StreamWriter] = set()

    @classmethod
    @asynccontextmanager
    async def before(
        cls, url: str, delay: float = 0.0, port: int = 0
    ) -> AsyncIterator[TripCounter]:
        """Listen in front of a database, on this port or on a free one."""
        parts = urlsplit(url)
        counter = cls(url, delay)
        server = await asyncio.start_server(
            lambda reader, writer: counter._serve(reader, writer, parts.hostname, parts.port),
            "127.0.0.1",
            port,
        )
        port = server.sockets[0].getsockname()[1]
        host = parts.netloc.replace(f":{parts.port}", f":{port}")
        # Without TLS, so that the messages can be read.
        counter.url = urlunsplit(parts._replace(netloc=host, query="sslmode=disable"))
        try:
            yield counter
        finally:
            server.close()
            await counter.drop()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._clients)

    async def drop(self) -> None:
        """Close every connection, so that the next statement has to open one."""
        for client in list(self._clients):
            client.close()
        await asyncio.sleep(0.05)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str | None,
        port: int | None,
    ) -> None:
        to_client = writer
        self._clients.add(writer)
        await asyncio.sleep(self.delay)
        from_server, to_server = await asyncio.open_connection(host, port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.gather(
                self._count(reader, to_server), self._answer(from_server, to_client)
            )
        for stream in (to_server, to_client):
            stream.close()
        self._clients.remove(writer)

    async def _count(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        # The first message, the start-up, has no type.
        length = await reader.readexactly(4)
        start_up = await reader.readexactly(int.from_bytes(length) - 4)
        to_server.write(length + start_up)
        if start_up[:4] != _CANCEL:
            self.connections += 1
            self.count += 1
        while True:
            head = await reader.readexactly(5)
            to_server.write(head + await reader.readexactly(int.from_bytes(head[1:]) - 4))
            self.count += head[:1] in _WAITING

    async def _answer(
        self, from_server: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await from_server.read(65536):
            loop.call_later(self.delay, to_client.write, chunk)
        loop.call_later(self.delay, to_client.close)
