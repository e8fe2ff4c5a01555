"""Bodies that a client holds back until it is asked for them."""

from __future__ import annotations

from tests.protocol.connections import Server, read_response, read_to_end

EXPECTING = b"POST /up HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"


async def test_who_is_answered_before_its_body_was_asked_for_need_not_send_it(
    server: Server,
) -> None:
    async with server.client() as (reader, writer):
        writer.write(EXPECTING)

        head, _ = await read_response(reader)
        assert head.startswith("http/1.1 200 ")
        assert "\r\nconnection: close\r\n" in head
        assert await read_to_end(reader) == b""


async def test_a_connection_is_kept_where_no_body_is_outstanding(server: Server) -> None:
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(EXPECTING + b"body")
            assert "connection:" not in (await read_response(reader))[0]


async def test_a_connection_is_kept_where_the_body_was_asked_for(server: Server) -> None:
    server.asks = True
    async with server.client() as (reader, writer):
        for _ in range(2):
            writer.write(EXPECTING)
            assert (await read_response(reader))[0].startswith("http/1.1 100 ")
            writer.write(b"bo")
            assert "connection:" not in (await read_response(reader))[0]
            # Answered already, it still is a body.
            writer.write(b"dy")
