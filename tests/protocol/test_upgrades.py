"""Requests for another protocol, which get their response in HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from api.server.uvicorn_protocol import Protocol
from tests.protocol.connections import (
    REQUEST,
    UPGRADE,
    UPGRADING,
    Reading,
    chunked,
    listening,
    read_response,
    read_to_end,
    sized,
)

WEBSOCKET = (
    b"connection: keep-alive, upgrade\r\nUPGRADE: websocket\r\nSec-WebSocket-Version: 13\r\n"
)
TWICE = b"Upgrade: h2c\r\nUpgrade:websocket\r\nProxy-Connection: upgrade\r\nConnection: upgrade\r\n"


@pytest.mark.parametrize("headers", [UPGRADE, WEBSOCKET, TWICE], ids=["h2c", "websocket", "twice"])
@pytest.mark.parametrize("framed", [sized, chunked])
async def test_a_request_for_another_protocol_gets_a_response_in_this_one(
    framed: Callable[[bytes, bytes], bytes],
    headers: bytes,
    reading: Reading,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with reading.client() as (reader, writer):
        for _ in range(2):
            writer.write(framed(b"body", headers))
            head, body = await read_response(reader)
            assert head.startswith("http/1.1 200 ")
            assert "connection:" not in head
            assert body == b"POST /up body"

    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


async def test_what_follows_a_request_for_another_protocol_is_answered_as_well(
    reading: Reading,
) -> None:
    async with reading.client() as (reader, writer):
        writer.write(UPGRADING + sized(b"a") + REQUEST + chunked(b"b") + UPGRADING + REQUEST)

        got = [(await read_response(reader))[1] for _ in range(6)]

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
            await read_response(reader)
            await read_response(reader)
            assert reading.requests == once, message[:at]
            reading.requests.clear()

        for byte in message:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await read_response(reader)
        await read_response(reader)
        assert reading.requests == once


async def test_nothing_is_read_after_the_last_request_of_a_connection(reading: Reading) -> None:
    async with reading.client() as (reader, writer):
        writer.write(sized(b"last", b"Connection: close, upgrade\r\nUpgrade: h2c\r\n") + REQUEST)

        got = await read_to_end(reader)

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

        got = await read_to_end(reader)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []
