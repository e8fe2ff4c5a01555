"""Bodies in another coding than chunked."""

from __future__ import annotations

import pytest

from tests.protocol.connections import (
    REQUEST,
    UPGRADE,
    Reading,
    chunked,
    read_response,
    read_to_end,
)


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

        got = await read_to_end(reader)

    assert got.startswith(b"HTTP/1.1 %s " % status)
    assert b"\r\nconnection: close\r\n" in got
    assert got.count(b"HTTP/1.1 ") == 1
    assert reading.requests == []


async def test_a_refusal_waits_for_the_responses_before_it(reading: Reading) -> None:
    coded = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    async with reading.client() as (reader, writer):
        writer.write(REQUEST + coded + REQUEST)

        assert (await read_response(reader))[0].startswith("http/1.1 200 ")
        assert (await read_response(reader))[0].startswith("http/1.1 501 ")
        assert await read_to_end(reader) == b""
    assert reading.requests == ["GET /"]


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" CHUNKED "])
async def test_chunked_is_known_however_it_is_written(coding: bytes, reading: Reading) -> None:
    message = chunked(b"body", b"").replace(b" chunked\r\n", coding + b"\r\n")
    async with reading.client() as (reader, writer):
        writer.write(message)

        assert (await read_response(reader))[1] == b"POST /up body"
