"""Counts round trips to PostgreSQL where they happen: on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class TripCounter:
    """A proxy that counts how often somebody waits for the server.

    Attributes:
        url: where to connect to instead.
        count: the trips so far, of all connections.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.count = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[TripCounter]:
        """Listen in front of a database."""
        parts = urlsplit(url)
        counter = cls(url)
        server = await asyncio.start_server(
            lambda reader, writer: counter._serve(reader, writer, parts.hostname, parts.port),
            "127.0.0.1",
        )
        port = server.sockets[0].getsockname()[1]
        host = parts.netloc.replace(f":{parts.port}", f":{port}")
        # In the clear, so that there is something to count.
        counter.url = urlunsplit(parts._replace(netloc=host, query="sslmode=disable"))
        try:
            yield counter
        finally:
            server.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str | None,
        port: int | None,
    ) -> None:
        to_client = writer
        from_server, to_server = await asyncio.open_connection(host, port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.gather(self._count(reader, to_server), _copy(from_server, to_client))
        for stream in (to_server, to_client):
            stream.close()

    async def _count(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        # The first message, the start-up, has no type.
        length = await reader.readexactly(4)
        to_server.write(length + await reader.readexactly(int.from_bytes(length) - 4))
        while True:
            head = await reader.readexactly(5)
            to_server.write(head + await reader.readexactly(int.from_bytes(head[1:]) - 4))
            # After Sync, Query and Flush a client waits for the server.
            # https://www.postgresql.org/docs/current/protocol-message-formats.html
            self.count += head[:1] in (b"S", b"Q", b"H")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()
