"""Clients that send or read slowly, or nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.control import GIVE_UP
from tests.protocol.connections import LONG, REQUEST, UPGRADING, Hasty, Server, listening


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


async def test_a_response_is_not_cut_short_by_the_slow_request_behind_it(server: Server) -> None:
    server.pause = 1.0
    async with server.client() as (reader, writer):
        writer.write(REQUEST)
        await asyncio.sleep(0.1)
        writer.write(REQUEST[:-2])

        async with asyncio.timeout(GIVE_UP):
            responses = await reader.read()
        assert responses.startswith(b"HTTP/1.1 200 OK")
        assert responses.partition(b"\r\n\r\nxx")[2].startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", [b"", REQUEST], ids=["at first", "after a response"])
async def test_a_connection_on_which_nothing_is_asked_is_closed(first: bytes) -> None:
    async with listening(Server(), keep_alive=1) as server, server.client() as (reader, writer):
        writer.write(first)

        async with asyncio.timeout(GIVE_UP):
            await reader.read()
        await server.until_alone()


@pytest.mark.parametrize("request_bytes", [REQUEST, REQUEST * 3], ids=["one", "pipelined"])
async def test_a_client_that_does_not_read_its_response_is_cut_off(
    request_bytes: bytes, server: Server
) -> None:
    server.size = LONG
    async with server.client() as (_, writer):
        writer.write(request_bytes)

        await asyncio.sleep(0.2)
        assert server.state.connections
        await server.until_alone()


async def test_a_client_that_reads_slowly_gets_all_of_its_response(server: Server) -> None:
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
