"""Servers of the tests on sockets, and what clients send them byte by byte."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.server.uvicorn_protocol import Protocol
from tests.control import GIVE_UP

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
UPGRADING = b"GET /up HTTP/1.1\r\nHost: here\r\n" + UPGRADE + b"\r\n"
LONG = 4 * 1024 * 1024
"""Bytes; more than both sides take ahead."""


class Hasty(Protocol):
    head_seconds = 0.4
    unread_seconds = 0.4


class Server:
    """Answers every request, after a while, with so many bytes; it may ask for a body first."""

    def __init__(self) -> None:
        self.size = 2
        self.pause = 0.0
        self.asks = False
        self.state = ServerState()
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self.pause)
        if self.asks:
            await receive()
        await PlainTextResponse("x" * self.size)(scope, receive, send)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of a client's, which takes little ahead."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # What is written in pieces is sent in pieces.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def until_alone(self) -> None:
        """Wait until the server has no connection left, and nothing to do."""
        async with asyncio.timeout(GIVE_UP):
            while self.state.connections or self.state.tasks:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)


App = TypeVar("App", bound=Server)


class Reading(Server):
    """Reads every request, and answers with what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        self.requests.append(f"{scope['method']} {scope['path']} {body.decode()}".strip())
        await PlainTextResponse(self.requests[-1])(scope, receive, send)


@asynccontextmanager
async def listening(
    app: App, keep_alive: int, protocol: type[Protocol] = Hasty
) -> AsyncIterator[App]:
    config = uvicorn.Config(app, http=protocol, timeout_keep_alive=keep_alive, log_config=None)
    config.load()

    def connected() -> Protocol:
        return protocol(config=config, server_state=app.state, app_state={})

    place = socket.create_server(("127.0.0.1", 0))
    # Connections take this after it: little is on its way that nobody has read.
    place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app.port = place.getsockname()[1]
    async with await asyncio.get_running_loop().create_server(connected, sock=place):
        yield app


async def read_response(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next response on a connection: its head in lower case, and its body."""
    async with asyncio.timeout(GIVE_UP):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        return head, await reader.readexactly(int(length[1]) if length else 0)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What is answered until the connection is closed."""
    async with asyncio.timeout(3):
        return await reader.read()


def sized(body: bytes, headers: bytes = UPGRADE) -> bytes:
    return (
        b"POST /up HTTP/1.1\r\nHost: here\r\n%sContent-Length: %d\r\n\r\n" % (headers, len(body))
    ) + body


def chunked(body: bytes, headers: bytes = UPGRADE) -> bytes:
    return (
        b"POST /up HTTP/1.1\r\nHost: here\r\n%sTransfer-Encoding: chunked\r\n\r\n" % headers
    ) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
