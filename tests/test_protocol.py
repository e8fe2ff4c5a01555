"""The HTTP of ``twofold serve``: clients that are slow, do nothing, or ask for another."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
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


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server(), keep_alive=5) as server:
        yield server


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    async with listening(Reading(), keep_alive=5) as reading:
        yield reading


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


async def test_headers_that_never_end_are_408(server: Server) -> None:
    async with server.client() as (reader, writer):
        writer.write(REQUEST[:-2])

        async with asyncio.timeout(GIVE_UP):
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
        async with asyncio.timeout(GIVE_UP):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        await server.until_alone()


@pytest.mark.parametrize("request_bytes", [REQUEST, UPGRADING], ids=["plain", "upgrading"])
async def test_headers_in_two_pieces_are_in_time_and_so_is_what_follows(
    request_bytes: bytes, server: Server
) -> None:
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(request_bytes[:10])
            await asyncio.sleep(0.1)
            writer.write(request_bytes[10:])
            assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"\r\n\r\nxx")
            # Nothing of the first request's time is left to run out.
            await asyncio.sleep(Hasty.head_seconds + 0.1)


async def test_an_answer_is_not_cut_short_by_the_slow_request_behind_it(server: Server) -> None:
    server.pause = 1.0
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        await asyncio.sleep(0.1)
        writer.write(REQUEST[:-2])

        async with asyncio.timeout(GIVE_UP):
            answers = await reader.read()
        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert answers.partition(b"\r\n\r\nxx")[2].startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", [b"", REQUEST], ids=["at first", "after an answer"])
async def test_a_connection_on_which_nothing_is_asked_is_closed(first: bytes) -> None:
    async with listening(Server(), keep_alive=1) as server, server.client() as (reader, writer):
        writer.write(first)

        async with asyncio.timeout(GIVE_UP):
            await reader.read()
        await server.until_alone()


@pytest.mark.parametrize("request_bytes", [REQUEST, REQUEST * 3], ids=["one", "pipelined"])
async def test_a_client_that_does_not_read_its_answer_is_cut_off(
    request_bytes: bytes, server: Server
) -> None:
    server.size = LONG
    async with server.client() as (_, writer):
        writer.write(request_bytes)

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
    async with listening(Server(), keep_alive=1) as server, server.client() as (_, writer):
        # Less than makes the server wait, more than the client takes ahead.
        server.size = 60 * 1024
        writer.write(REQUEST)

        await server.until_alone()


# --- Other protocols, other codings, and bodies held back -------------------------------------


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next answer on a connection: its head in lower case, and its body."""
    async with asyncio.timeout(GIVE_UP):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        return head, await reader.readexactly(int(length[1]) if length else 0)


async def all_answers(reader: asyncio.StreamReader) -> bytes:
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


WEBSOCKET = (
    b"connection: keep-alive, upgrade\r\nUPGRADE: websocket\r\nSec-WebSocket-Version: 13\r\n"
)
TWICE = b"Upgrade: h2c\r\nUpgrade:websocket\r\nProxy-Connection: upgrade\r\nConnection: upgrade\r\n"


@pytest.mark.parametrize("headers", [UPGRADE, WEBSOCKET, TWICE], ids=["h2c", "websocket", "twice"])
@pytest.mark.parametrize("framed", [sized, chunked])
async def test_who_asks_for_another_protocol_is_answered_in_this(
    framed: Callable[[bytes, bytes], bytes],
    headers: bytes,
    reading: Reading,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with reading.client() as (reader, writer):
        for _ in range(2):
            writer.write(framed(b"body", headers))
            head, body = await answer(reader)
            assert head.startswith("http/1.1 200 ")
            assert "connection:" not in head
            assert body == b"POST /up body"

    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


async def test_what_follows_a_request_for_another_protocol_is_answered_as_well(
    reading: Reading,
) -> None:
    async with reading.client() as (reader, writer):
        writer.write(UPGRADING + sized(b"a") + REQUEST + chunked(b"b") + UPGRADING + REQUEST)

        got = [(await answer(reader))[1] for _ in range(6)]

    assert got == [b"GET /up", b"POST /up a", b"GET /", b"POST /up b", b"GET /up", b"GET /"]


@pytest.mark.parametrize("framed", [sized, chunked])
async def test_a_body_stays_a_body_wherever_its_request_is_split(
    framed: Callable[[bytes], bytes],
) -> None:
    # Were it read as a request, that would be answered, too.
    message = framed(REQUEST) + REQUEST
    once = [f"POST /up {REQUEST.decode()}".strip(), "GET /"]
    async with (
        # With the time-outs of production: byte by byte, a busy machine is too slow for Hasty.
        listening(Reading(), keep_alive=60, protocol=Protocol) as reading,
        reading.client() as (reader, writer),
    ):
        for at in range(1, len(message)):
            writer.write(message[:at])
            await asyncio.sleep(0.002)
            writer.write(message[at:])
            await answer(reader)
            await answer(reader)
            assert reading.requests == once, message[:at]
            reading.requests.clear()

        for byte in message:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await answer(reader)
        await answer(reader)
        assert reading.requests == once


async def test_nothing_is_read_after_the_last_request_of_a_connection(reading: Reading) -> None:
    async with reading.client() as (reader, writer):
        writer.write(sized(b"last", b"Connection: close, upgrade\r\nUpgrade: h2c\r\n") + REQUEST)

        got = await all_answers(reader)

    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in got
    assert got.endswith(b"\r\n\r\nPOST /up last")
    assert reading.requests == ["POST /up last"]


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n",
        b"CONNECT /up HTTP/1.1\r\nHost: here\r\n\r\n",
        b"CONNECT /up HTTP/1.1\r\nHost: here\r\n" + UPGRADE + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /up HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade : h2c\r\n\r\n",
        b"GET /up HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\n Upgrade: h2c\r\n\r\n",
        b"GET /up HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade:\r\n h2c\r\n\r\n",
        b"GET /up HTTP/1.1\r\nHost: here\r\nUpgrade: h2c\r\nConnection:\r\n\tupgrade\r\n\r\n",
    ],
)
@pytest.mark.parametrize("packets", [1, 2])
async def test_tunnels_and_headers_on_two_lines_are_400_and_nothing_behind_them_is_read(
    packets: int, head: bytes, reading: Reading
) -> None:
    async with reading.client() as (reader, writer):
        if packets == 1:
            writer.write(head + REQUEST)
        else:
            writer.write(head)
            await asyncio.sleep(0.05)
            writer.write(REQUEST)

        got = await all_answers(reader)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []


EXPECTING = b"POST /up HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"


async def test_who_is_answered_before_its_body_was_asked_for_need_not_send_it(
    server: Server,
) -> None:
    async with server.client() as (reader, writer):
        writer.write(EXPECTING)

        head, _ = await answer(reader)
        assert head.startswith("http/1.1 200 ")
        assert "\r\nconnection: close\r\n" in head
        assert await all_answers(reader) == b""


async def test_a_connection_is_kept_where_no_body_is_outstanding(server: Server) -> None:
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(EXPECTING + b"body")
            assert "connection:" not in (await answer(reader))[0]


async def test_a_connection_is_kept_where_the_body_was_asked_for(server: Server) -> None:
    server.asks = True
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(EXPECTING)
            assert (await answer(reader))[0].startswith("http/1.1 100 ")
            writer.write(b"bo")
            assert "connection:" not in (await answer(reader))[0]
            # Answered already, it still is a body.
            writer.write(b"dy")


@pytest.mark.parametrize(
    ("version", "codings", "status"),
    [
        (b"1.1", b"Transfer-Encoding: gzip, chunked\r\n", b"501"),
        (b"1.1", b"Transfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n", b"501"),
        (b"1.1", UPGRADE + b"Transfer-Encoding: gzip, chunked\r\n", b"501"),
        (b"1.1", b"Transfer-Encoding: chunked, gzip\r\n", b"400"),
        (b"1.1", b"Transfer-Encoding: identity\r\n", b"400"),
        (b"1.0", b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", b"400"),
    ],
)
async def test_a_body_in_any_coding_but_chunked_is_refused_and_nothing_behind_it_is_read(
    version: bytes, codings: bytes, status: bytes, reading: Reading
) -> None:
    head = b"GET /up HTTP/%s\r\nHost: here\r\n%s\r\n" % (version, codings)
    async with reading.client() as (reader, writer):
        writer.write(head + b"4\r\nbody\r\n0\r\n\r\n" + REQUEST)

        got = await all_answers(reader)

    assert got.startswith(b"HTTP/1.1 %s " % status)
    assert b"\r\nconnection: close\r\n" in got
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []


async def test_a_refusal_waits_for_the_answers_before_it(reading: Reading) -> None:
    coded = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    async with reading.client() as (reader, writer):
        writer.write(REQUEST + coded + REQUEST)

        assert (await answer(reader))[0].startswith("http/1.1 200 ")
        assert (await answer(reader))[0].startswith("http/1.1 501 ")
        assert await all_answers(reader) == b""
    assert reading.requests == ["GET /"]


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" CHUNKED "])
async def test_chunked_is_known_however_it_is_written(coding: bytes, reading: Reading) -> None:
    message = chunked(b"body", b"").replace(b" chunked\r\n", coding + b"\r\n")
    async with reading.client() as (reader, writer):
        writer.write(message)

        assert (await answer(reader))[1] == b"POST /up body"
