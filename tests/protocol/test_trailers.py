"""Trailers of a chunked body, and headers without an end, at `twofold serve`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.servers import served


async def test_trailers_are_no_headers_and_headers_have_an_end(database_url: str) -> None:
    async with served(database_url) as (client, _):
        port = client.base_url.port
        trailer = (
            b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n"
            b"Host: evil.example\r\n\r\n"
        )
        endless = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2_000_000

        of_trailer = await exchange(port, trailer)
        of_endless = await exchange(port, endless)

    # With the trailer for a header it would be 421, for there would be two hosts.
    assert of_trailer.startswith(b"HTTP/1.1 401 ")
    # A 400, unless the connection was gone before it could be read.
    assert of_endless[:13] in (b"", b"HTTP/1.1 400 ")


async def exchange(port: int | None, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        writer.write(message)
        await writer.drain()
    response = b""
    with suppress(ConnectionError):
        response = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return response
