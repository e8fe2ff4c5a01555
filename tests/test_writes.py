"""How often a response is written: each write is a system call, and perhaps a packet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.server.uvicorn_protocol import Protocol


class Writing(Protocol):
    """Notes what it writes."""

    written: list[bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        write = transport.write

        def note(data: bytes) -> None:
            self.written.append(data)
            write(data)

        transport.write = note  # type: ignore[assignment, method-assign]
        super().connection_made(transport)


class Written:
    """A server of one app, and what it writes to its clients."""

    def __init__(self, port: int, written: list[bytes]) -> None:
        self.port = port
        self.written = written

    async def responses_to(self, request: bytes) -> bytes:
        """Everything that the server sends until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    responses = {
        "/text": PlainTextResponse("a text"),
        "/empty": Response(status_code=204),
        "/unchanged": Response(status_code=304),
        "/stream": StreamingResponse(first_then_never(), media_type="text/event-stream"),
        "/break": PlainTextResponse("a text", headers={"x-name": "a\r\nset-cookie: b"}),
        "/short": Response(b"a text", headers={"content-length": "7"}),
        "/long": Response(b"a text", headers={"content-length": "5"}),
        "/closing": PlainTextResponse("a text", headers={"connection": "close"}),
    }
    await responses[scope["path"]](scope, receive, send)


async def first_then_never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


@pytest.fixture
async def server() -> AsyncIterator[Written]:
    config = uvicorn.Config(app, log_config=None)
    config.load()
    state = ServerState()
    written: list[bytes] = []

    def connected() -> Writing:
        protocol = Writing(config=config, server_state=state, app_state={})
        protocol.written = written
        return protocol

    place = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.get_running_loop().create_server(connected, sock=place):
        yield Written(place.getsockname()[1], written)
        for task in state.tasks:
            task.cancel()


def request(path: str, method: str = "GET", more: str = "Connection: close\r\n") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/text", "/empty", "/unchanged"])
async def test_a_whole_response_is_one_write(path: str, method: str, server: Written) -> None:
    response = await server.responses_to(request(path, method))

    assert server.written == [response]
    assert response.count(b"HTTP/1.1 ") == response.count(b"connection: close\r\n") == 1
    has_body = path == "/text" and method == "GET"
    assert response.endswith(b"\r\n\r\na text" if has_body else b"\r\n\r\n")


async def test_pipelined_requests_are_one_write_each(server: Written) -> None:
    several = request("/text", more="") + request("/text", "HEAD", more="") + request("/closing")

    response = await server.responses_to(several)

    assert len(server.written) == 3
    assert b"".join(server.written) == response
    assert [b"connection: close" in each for each in server.written] == [False, False, True]


async def test_the_head_of_a_stream_is_written_before_its_first_chunk(server: Written) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request("/stream"))

    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")

    writer.close()
    assert b"\r\ntransfer-encoding: chunked\r\n" in head


@pytest.mark.parametrize("path", ["/break", "/short", "/long"])
async def test_a_response_that_would_break_http_ends_the_connection(
    path: str, server: Written, caplog: pytest.LogCaptureFixture
) -> None:
    response = await server.responses_to(request(path, more=""))

    assert b"set-cookie" not in response
    assert len(response.partition(b"\r\n\r\n")[2]) < 7
    [record] = [each for each in caplog.records if each.exc_info]
    assert "RuntimeError" in str(record.exc_info)
