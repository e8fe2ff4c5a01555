"""The connection to Redis: each reply reaches its caller, and every wait and byte is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from api.rate_limit import redis_connection
from api.rate_limit.redis_connection import RedisConnection
from persistence.embedded.valkey import Valkey
from persistence.redis_url import RedisServer, parse_redis_url
from tests.control import GIVE_UP

TIMEOUT = 0.5


@pytest.fixture
async def connection(valkey: Valkey) -> AsyncIterator[RedisConnection]:
    connection = await RedisConnection.open(parse_redis_url(valkey.url), 5.0)
    yield connection
    connection.abort()


@asynccontextmanager
async def connected_to(response: Callable[[bytes], bytes]) -> AsyncIterator[RedisConnection]:
    """A connection to a server that answers what it reads like this; ``b""`` is no answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"HELLO" in await reader.read(2**20)
        writer.write(b"-ERR unknown command 'HELLO'\r\n")
        while received := await reader.read(2**20):
            writer.write(response(received))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await RedisConnection.open(RedisServer("127.0.0.1", port), TIMEOUT)
        yield connection
        connection.abort()


async def test_each_caller_gets_its_own_reply(connection: RedisConnection) -> None:
    replies = await asyncio.gather(*(connection.call("ECHO", n) for n in range(2000)))

    assert replies == [str(n).encode() for n in range(2000)]


async def test_a_caller_that_is_cancelled_or_refused_takes_no_others_reply(
    connection: RedisConnection,
) -> None:
    calls = [connection.call("ECHO", n) for n in range(3)]
    wrong = connection.call("ECHO")
    last = connection.call("ECHO", "last")
    calls[1].cancel()

    with pytest.raises(hiredis.ReplyError, match="wrong number of arguments"):
        await wrong
    assert (await calls[0], await calls[2], await last) == (b"0", b"2", b"last")


async def test_commands_of_one_turn_leave_in_one_write() -> None:
    received: list[bytes] = []

    def respond(commands: bytes) -> bytes:
        received.append(commands)
        return b"+OK\r\n" * commands.count(b"PING")

    async with connected_to(respond) as connection:
        await asyncio.gather(*(connection.call("PING") for _ in range(20)))

    assert len(received) == 1


async def test_silence_ends_every_call_and_a_late_reply_is_not_anothers() -> None:
    waiting = asyncio.Event()

    def respond(commands: bytes) -> bytes:
        if not waiting.is_set():
            return b""
        # Those of before, and this one.
        return b"+late\r\n" * 3 + b"+new\r\n"

    async with connected_to(respond) as connection:
        silent = await asyncio.gather(
            *(connection.call("PING") for _ in range(3)), return_exceptions=True
        )
        waiting.set()
        reply = await connection.call("PING")

    assert [type(error) for error in silent] == [TimeoutError] * 3
    assert reply == b"new"


async def test_a_lost_connection_ends_every_call() -> None:
    async with connected_to(lambda _: b"") as connection:
        calls = [connection.call("PING") for _ in range(3)]
        connection.abort()
        errors = await asyncio.gather(*calls, return_exceptions=True)

        assert [type(error) for error in errors] == [ConnectionResetError] * 3
        with pytest.raises(ConnectionResetError):
            connection.call("PING")


async def test_more_calls_than_may_wait_fail_at_once(
    connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "MAX_UNANSWERED", 3)
    calls = [connection.call("ECHO", n) for n in range(3)]

    with pytest.raises(ConnectionError, match="3 commands wait"):
        connection.call("ECHO", 3)
    assert await asyncio.gather(*calls) == [b"0", b"1", b"2"]
    assert await connection.call("ECHO", 4) == b"4"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$1000000000\r\n" + b"x" * redis_connection.MAX_REPLY,
        b"+" + b"x" * 2 * redis_connection.MAX_REPLY,
        b"+OK\r\n+OK\r\n+OK\r\n",
        # Room for so many would take hiredis seconds.
        b"*2000000000\r\n",
        b"*1\r\n*2000000000\r\n",
        b"*4294967295\r\n",
        b"%1\r\n*0\r\n+x\r\n",
    ],
    ids=[
        "no Redis", "a long text", "a line without end", "replies that nobody asked for",
        "a long array", "a long array in an array", "an array beyond memory",
        "a map whose key is an array",
    ],
)  # fmt: skip
async def test_a_server_that_breaks_the_protocol_is_left(reply: bytes) -> None:
    async with connected_to(lambda _: reply) as connection:
        await asyncio.wait([connection.call("PING")])
        async with asyncio.timeout(GIVE_UP):
            while not connection.is_closed():  # noqa: ASYNC110  # the end has no event
                await asyncio.sleep(0.01)


async def test_the_head_of_a_long_array_is_known_in_two_pieces() -> None:
    connection = RedisConnection(1)
    connection.data_received(b"*9999")
    connection.data_received(b"99999\r\n")

    assert connection.is_closed()
