"""Clients that are slow or do nothing, at the HTTP of ``twofold serve``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.protocol import Protocol

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LONG = 4 * 1024 * 1024
"""Bytes; more than both sides take ahead."""


class Hasty(Protocol):
    head_seconds = 0.4
    unread_seconds = 0.4


class Server:
    """Answers every request, after a while, with so many bytes."""

    def __init__(self) -> None:
        self.size = 2
        self.pause = 0.0
        self.state = ServerState()
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self.pause)
        await PlainTextResponse("x" * self.size)(scope, receive, send)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of a client's, which takes little ahead."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def until_alone(self) -> None:
        """Wait until the server has no connection left, and nothing to do."""
        async with asyncio.timeout(5):
            while self.state.connections or self.state.tasks:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(keep_alive=5) as server:
        yield server


@asynccontextmanager
async def listening(keep_alive: int) -> AsyncIterator[Server]:
    app = Server()
    config = uvicorn.Config(app, http=Hasty, timeout_keep_alive=keep_alive, log_config=None)
    config.load()

    def connected() -> Hasty:
        return Hasty(config=config, server_state=app.state, app_state={})

    place = socket.create_server(("127.0.0.1", 0))
    # Connections take this after it: little is on its way that nobody has read.
    place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    app.port = place.getsockname()[1]
    async with await asyncio.get_running_loop().create_server(connected, sock=place):
        yield app


async def test_headers_that_never_end_are_408(server: Server) -> None:
    async with server.client() as (reader, writer):
        writer.write(REQUEST[:-2])

        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        await server.until_alone()


async def test_headers_that_drip_are_408_as_well(server: Server) -> None:
    async with server.client() as (reader, writer):

        async def drip() -> None:
            writer.write(REQUEST[:-2])
            while True:
                await asyncio.sleep(0.05)
                writer.write(b"x: y\r\n")

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        await server.until_alone()


async def test_headers_in_two_pieces_are_in_time_and_so_is_what_follows(server: Server) -> None:
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(REQUEST[:10])
            await asyncio.sleep(0.1)
            writer.write(REQUEST[10:])
            assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"\r\n\r\nxx")
            # Nothing of the first request's time is left to run out.
            await asyncio.sleep(Hasty.head_seconds + 0.1)


async def test_an_answer_is_not_cut_short_by_the_slow_request_behind_it(server: Server) -> None:
    server.pause = 1.0
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        await asyncio.sleep(0.1)
        writer.write(REQUEST[:-2])

        async with asyncio.timeout(5):
            answers = await reader.read()
        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert answers.partition(b"\r\n\r\nxx")[2].startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", [b"", REQUEST], ids=["at first", "after an answer"])
async def test_a_connection_on_which_nothing_is_asked_is_closed(first: bytes) -> None:
    async with listening(keep_alive=1) as server, server.client() as (reader, writer):
        writer.write(first)

        async with asyncio.timeout(5):
            await reader.read()
        await server.until_alone()


@pytest.mark.parametrize("asked", [REQUEST, REQUEST * 3], ids=["one", "pipelined"])
async def test_a_client_that_does_not_read_its_answer_is_cut_off(
    asked: bytes, server: Server
) -> None:
    server.size = LONG
    async with server.client() as (_, writer):
        writer.write(asked)

        await asyncio.sleep(0.2)
        assert server.state.connections
        await server.until_alone()


async def test_a_client_that_reads_slowly_gets_all_of_its_answer(server: Server) -> None:
    server.size = LONG
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(20):
            await asyncio.sleep(0.1)
            await reader.readexactly(LONG // 20)


async def test_what_is_left_unread_does_not_outlive_the_connection() -> None:
    async with listening(keep_alive=1) as server, server.client() as (_, writer):
        # Less than makes the server wait, more than the client takes ahead.
        server.size = 60 * 1024
        writer.write(REQUEST)

        await server.until_alone()
