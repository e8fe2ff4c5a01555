"""The HTTP of ``twofold serve``: whatever a client sends or leaves out, a bound and a deadline."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import resource
import socket
import struct
from typing import ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.server.connections import Episode
from api.server.uvicorn_protocol import MAX_HEADERS, MAX_PIPELINED, MAX_UNUSED
from tests.protocol.connections import (
    LONG,
    REQUEST,
    Hasty,
    Reading,
    Server,
    chunked,
    listening,
    read_response,
    read_to_end,
    sized,
)

EARLY = b"POST /up HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /up HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasty, "body_seconds", 0.4)


# --- Pipelining -------------------------------------------------------------------------------


class Waiting(Server):
    """Notes how many requests wait behind the one that it answers."""

    most: ClassVar[int] = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        [connection] = self.state.connections
        Waiting.most = max(Waiting.most, len(connection.pipeline))
        await PlainTextResponse(scope["path"])(scope, receive, send)


async def test_a_burst_is_answered_in_order_with_few_requests_waiting_at_a_time() -> None:
    Waiting.most = 0
    paths = [f"/{number}" for number in range(3000)]
    burst = b"".join(b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n" % path.encode() for path in paths)
    async with listening(Waiting(), keep_alive=5) as server, server.client() as (reader, writer):
        writer.write(burst)

        got = [(await read_response(reader))[1].decode() for _ in paths]

    assert got == paths
    assert 1 < Waiting.most <= MAX_PIPELINED


async def test_a_burst_leaves_other_connections_their_turn(server: Server) -> None:
    async with server.client() as (_, busy), server.client() as (reader, writer):
        busy.write(REQUEST * 5000)
        await asyncio.sleep(0)
        writer.write(REQUEST)
        await read_response(reader)

        # Answered among the first of the burst.
        assert max(len(each.pipeline) for each in server.state.connections) > 0


class Hashing(Server):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await PlainTextResponse(hashlib.sha256(body).hexdigest())(scope, receive, send)


@pytest.mark.parametrize("framed", [sized, chunked])
@pytest.mark.parametrize("size", [10, 60_000, 600_000])
async def test_a_body_of_ends_of_heads_is_read_whole_and_so_is_what_follows(
    size: int,
    framed: object,
) -> None:
    body = (b"\r\n\r\n" * size)[:size] + os.urandom(9)
    async with listening(Hashing(), keep_alive=5) as server, server.client() as (reader, writer):
        for _ in range(2):
            writer.write(framed(body, b"") + REQUEST * 40 + framed(body, b""))  # type: ignore[operator]

            expected = [body, *[b""] * 40, body]
            got = [(await read_response(reader))[1].decode() for _ in expected]
            assert got == [hashlib.sha256(each).hexdigest() for each in expected]


async def test_bodies_behind_a_request_wait_in_the_network(reading: Reading) -> None:
    slow = Server()
    slow.pause = 0.5
    async with listening(slow, keep_alive=5) as server, server.client() as (_, writer):
        writer.write(REQUEST)
        for _ in range(100):
            writer.write(sized(b"x" * 60_000, b""))
        await asyncio.sleep(0.3)

        [connection] = server.state.connections
        held = sum(len(cycle.body) for cycle, _ in connection.pipeline)
        assert held + len(connection._packet) < 1024 * 1024  # type: ignore[union-attr]


# --- Bytes that are no body -------------------------------------------------------------------

A = b"a" * 1024
ENDLESS = {
    "request line": (b"GET /", A),
    "header": (b"GET / HTTP/1.1\r\nHost: here\r\nX: ", A),
    "headers": (b"GET / HTTP/1.1\r\nHost: here\r\n", b"X: y\r\n" * 100),
    "line ends before a request": (b"\r\n", b"\r\n" * 500),
    "chunk extension": (CHUNKED + b"1;", A),
    "chunk extensions": (CHUNKED, (b"1;%s\r\nx\r\n" % A)),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * 100),
    "chunk size": (CHUNKED, b"0" * 1024),
    "trailer": (CHUNKED + b"0\r\nX: ", A),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 100),
}


@pytest.mark.parametrize("app", [Server, Reading], ids=["answered early", "read"])
@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS)
async def test_whatever_is_no_body_has_an_end(begin: bytes, more: bytes, app: type[Server]) -> None:
    async with listening(app(), keep_alive=5) as server, server.client() as (reader, writer):
        sent = 0
        writer.write(begin)
        responses = asyncio.create_task(read_to_end(reader))
        while server.state.connections or not sent:
            writer.write(more)
            sent += len(more)
            await asyncio.sleep(0.0005)
            assert sent < 16 * MAX_HEADERS
        await server.until_alone()
        writer.transport.abort()
        got = await asyncio.gather(responses, return_exceptions=True)

    if isinstance(got[0], bytes):  # Else it was lost to the reset that followed.
        assert b"HTTP/1.1 400 " in got[0]


async def test_trailers_and_extensions_in_measure_are_passed_over(reading: Reading) -> None:
    body = b"4;a=b\r\nbody\r\n0\r\nX: y\r\n\r\n"
    async with reading.client() as (reader, writer):
        for _ in range(3):
            writer.write(CHUNKED + body)
            assert (await read_response(reader))[1] == b"POST /up body"


# --- What is not HTTP, behind what is ---------------------------------------------------------


async def test_garbage_behind_a_request_is_answered_after_it(server: Server) -> None:
    server.pause = 0.2
    async with server.client() as (reader, writer):
        writer.write(REQUEST * 3 + b"garbage\r\n\r\n" + REQUEST)

        got = await read_to_end(reader)

    statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"200", b"400"]


async def test_garbage_in_a_body_ends_the_request_that_reads_it(reading: Reading) -> None:
    async with reading.client() as (reader, writer):
        writer.write(REQUEST + CHUNKED + b"4\r\nbody\r\n")
        await read_response(reader)
        writer.write(b"garbage\r\n\r\n")

        got = await read_to_end(reader)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == ["GET /"]


async def test_garbage_in_the_body_of_a_request_that_waits_ends_that_one(server: Server) -> None:
    server.pause = 0.2
    async with server.client() as (reader, writer):
        writer.write(REQUEST * 2 + CHUNKED + b"garbage\r\n\r\n")

        got = await read_to_end(reader)

    statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"400"]


async def test_invalid_requests_are_two_lines_in_the_log_however_many_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "api.server.uvicorn_protocol.INVALID_REQUESTS", Episode("invalid HTTP requests")
    )
    monkeypatch.setattr(Episode, "seconds", 0.5)
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            async with server.client() as (reader, writer):
                writer.write(b"garbage\r\n\r\n")
                await read_to_end(reader)
        async with asyncio.timeout(5):
            while "over, after 50 times" not in caplog.text:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)

    # Another test's may be counted here, too.
    assert caplog.messages.count("invalid HTTP requests: what arrived is not HTTP/1.1") == 1
    assert len(caplog.messages) <= 8


# --- Versions and targets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    [b"", b" HTTP/0.9", b" HTTP/1.2", b" HTTP/1.10", b" HTTP/2.0", b" HTTP/3.7", b" HTTP/9.9",
     b" HTTP/1", b" http/1.1"],
)  # fmt: skip
async def test_another_version_is_never_served(version: bytes, reading: Reading) -> None:
    async with reading.client() as (reader, writer):
        writer.write(b"GET /%s\r\nHost: here\r\n\r\n" % version + REQUEST)

        got = await read_to_end(reader)

    assert got[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 505 ")
    assert b"\r\nconnection: close\r\n" in got
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []


MALFORMED = [
    b"GET /a#b HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET a HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET ftp://here/a HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET http:///a HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET http://ada@here/a HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /a\x00 HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /\x01 HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /\x7f HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET /\tHTTP/1.1\r\nHost: here\r\n\r\n",
    b"GET / HTTP/1.1\nHost: here\n\n",
    b"GET / HTTP/1.1\r\nHost: here\r\n\n",
    b"GET / HTTP/1.1\r\nHost: here\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: here\r\nX : a\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: here\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: +4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4, 4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0x4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: -4\r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: \r\n\r\nbody",
    b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    CHUNKED[:-2] + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    (EARLY % 4)[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    CHUNKED + b"4 \r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"0x4\r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"4\nbody\n0\n\n",
    CHUNKED + b"fffffffffffffffff\r\nbody\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("request_", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_malformed_request_is_400_and_nothing_behind_it_is_read(
    request_: bytes, reading: Reading
) -> None:
    async with reading.client() as (reader, writer):
        writer.write(request_ + REQUEST)

        got = await read_to_end(reader)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []


class Naming(Server):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
        text = f"{hosts} {scope['path']} {scope['query_string'].decode()}"
        await PlainTextResponse(text)(scope, receive, send)


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"http://there/a", "['there'] /a "),
        (b"HTTP://there:1/a/b?c=/d", "['there:1'] /a/b c=/d"),
        (b"http://there", "['there'] / "),
        (b"http://there?c=/d", "['there'] / c=/d"),
        (b"//there/a", "['here'] //there/a "),
    ],
)
async def test_a_target_in_absolute_form_says_the_host(target: bytes, seen: str) -> None:
    async with listening(Naming(), keep_alive=5) as server, server.client() as (reader, writer):
        writer.write(b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n" % target)

        assert (await read_response(reader))[1].decode() == seen


# --- No state without a timer -----------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", b"x"], ids=["nothing", "a byte"])
async def test_a_body_that_does_not_end_after_an_early_response_is_given_up(
    part: bytes, server: Server
) -> None:
    async with server.client() as (reader, writer):
        writer.write(EARLY % 9)
        await read_response(reader)
        writer.write(part)

        assert await read_to_end(reader) == b""
        await server.until_alone()


async def test_a_body_that_drips_after_an_early_response_is_given_up(server: Server) -> None:
    async with server.client() as (reader, writer):
        writer.write(EARLY % 9999)
        await read_response(reader)
        async with asyncio.timeout(5):
            while server.state.connections:
                writer.write(b"x")
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("head", [EARLY % 10**12, CHUNKED + b"fffffffff\r\n"])
async def test_a_body_that_is_too_long_after_an_early_response_is_given_up(
    head: bytes, server: Server
) -> None:
    async with server.client() as (reader, writer):
        writer.write(head)
        await read_response(reader)
        sent = 0
        while server.state.connections:
            writer.write(b"x" * 16384)
            sent += 16384
            await asyncio.sleep(0.0005)
            assert sent < 4 * MAX_UNUSED


async def test_a_body_that_ends_in_time_after_an_early_response_leaves_the_connection_open(
    server: Server,
) -> None:
    async with server.client() as (reader, writer):
        for _ in range(3):
            writer.write(EARLY % 100_000)
            await read_response(reader)
            writer.write(b"x" * 100_000 + REQUEST)
            await read_response(reader)
            await asyncio.sleep(Hasty.body_seconds + 0.1)


async def test_a_connection_is_closed_after_a_late_body_when_nothing_is_asked_any_more() -> None:
    async with listening(Server(), keep_alive=1) as server, server.client() as (reader, writer):
        writer.write(EARLY % 4)
        await read_response(reader)
        writer.write(b"body")

        assert await read_to_end(reader) == b""
        await server.until_alone()


@pytest.mark.parametrize("rest", [b"GET", EARLY % 4], ids=["head", "body"])
async def test_what_is_begun_behind_a_request_in_one_packet_has_a_deadline(
    rest: bytes, server: Server
) -> None:
    async with server.client() as (reader, writer):
        writer.write(REQUEST + rest)

        await read_to_end(reader)  # In less than it is kept alive.
        await server.until_alone()


async def test_a_response_that_is_read_in_drops_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hasty, "unread_rate", 1024 * 1024)
    server.size = 4 * LONG
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        async with asyncio.timeout(8):
            while server.state.connections:
                await reader.read(20_000)
                await asyncio.sleep(0.1)
        await server.until_alone()


CLOSING = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("how", ["asked to close", "half closed", "shut down"])
async def test_a_response_that_is_unread_on_a_connection_that_closes_is_dropped(
    how: str, server: Server
) -> None:
    # Less than makes the server wait, more than the client takes ahead.
    server.size = 60 * 1024
    async with server.client() as (_, writer):
        writer.write(CLOSING if how == "asked to close" else REQUEST)
        if how == "half closed":
            await asyncio.sleep(0.2)
            writer.write_eof()
        elif how == "shut down":
            await asyncio.sleep(0.2)
            for connection in list(server.state.connections):
                connection.shutdown()

        await server.until_alone()


# --- Clients that are gone --------------------------------------------------------------------


@pytest.mark.parametrize("sent", [REQUEST * 300, sized(b"x" * 9, b"") * 300, EARLY % 99 + b"x"])
@pytest.mark.parametrize("size", [2, LONG])
async def test_a_client_that_resets_leaves_nothing_and_no_line_in_the_log(
    size: int, sent: bytes, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.size = size
    server.asks = True
    for pause in (0, 0.001, 0.003, 0.01, 0.05) * 4:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(sent)
        await asyncio.sleep(pause)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        await asyncio.sleep(pause)
    await server.until_alone()

    # What another test caused may be counted here.
    assert [line for line in caplog.messages if not line.startswith("invalid HTTP")] == []


# --- File descriptors -------------------------------------------------------------------------


async def test_a_connection_for_which_no_descriptor_is_left_is_closed_and_the_log_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "api.server.uvicorn_protocol.REFUSED_CONNECTIONS", Episode("connections refused")
    )
    monkeypatch.setattr(Episode, "seconds", 0.5)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        await read_response(reader)
        with socket.socket() as probe:
            free = probe.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * free, before[1]))
        try:
            for _ in range(20):
                async with server.client() as (refused, _):
                    assert (await read_to_end(refused)).startswith(b"HTTP/1.1 503 ")
            writer.write(REQUEST)
            assert (await read_response(reader))[0].startswith("http/1.1 200 ")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        assert (await read_response(reader))[0].startswith("http/1.1 200 ")
    async with asyncio.timeout(5):
        while "refused: over" not in caplog.text:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)

    lines = [line for line in caplog.messages if line.startswith("connections refused: ")]
    first, *_, last = lines
    assert "file descriptors are in use" in first
    assert last.startswith("connections refused: over, after 20 times in ")
    assert len(lines) <= 5
