"""Changes through another instance: hints by Redis, and the check without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Monitor

from api.live import hints
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.redis_url import parse_redis_url
from tests.control import GIVE_UP
from tests.live.clients import Listen
from tests.live.instances import Instance, Serve, person_of
from tests.log_lines import records_of


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey of the test's own."""
    with embedded_valkey() as server:
        yield server


@asynccontextmanager
async def messages(valkey: Valkey) -> AsyncIterator[list[str]]:
    """The ids of the people in the hints that are sent; empty ones of pings."""
    received: list[str] = []

    async def listen(monitor: Monitor) -> None:
        async for command in monitor.listen():
            if command["command"].startswith("PUBLISH"):
                received.append(command["command"].rpartition(":")[2])

    async with Redis.from_url(valkey.url) as client, client.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        yield received
        listening.cancel()


async def until_pinged(received: list[str]) -> None:
    """Wait until a further ping has been received: what was sent before it has been, too."""
    number = received.count("")
    async with asyncio.timeout(GIVE_UP):
        while received.count("") == number:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def until_heard_of(instance: Instance, *, others: bool = True) -> None:
    """Wait until an instance knows that there are others, or none."""
    async with asyncio.timeout(GIVE_UP):
        while instance.app.state.twofold.hints.is_alone == others:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def test_an_instance_is_told_of_the_changes_through_another(
    serve: Serve, sql: asyncpg.Connection, listen: Listen, valkey: Valkey
) -> None:
    # The regular check would come too late.
    first, second = [await serve(redis_url=valkey.url, live_check_seconds=60) for _ in range(2)]
    await until_heard_of(first)
    ada = await person_of(first, sql)
    events = await listen(second, ada)
    await events.apply()

    for number in range(3):
        await ada.create_task(f"task {number}")
        assert [each["title"] for each in await events.apply()] == [f"task {number}"]


async def test_an_instance_sends_hints_only_while_there_is_another(
    serve: Serve, sql: asyncpg.Connection, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "PING_SECONDS", 0.1)
    monkeypatch.setattr(hints, "ALONE_AFTER_SECONDS", 0.3)
    first = await serve(redis_url=valkey.url)
    ada = await person_of(first, sql)
    async with messages(valkey) as received:
        await ada.create_task("alone")
        await until_pinged(received)
        alone = received.count(ada.user_id)

        second = await serve(redis_url=valkey.url)
        await until_heard_of(first)
        await ada.create_task("with another")
        await until_pinged(received)
        with_another = received.count(ada.user_id)

        await second.app.state.twofold.hints.close()
        await until_heard_of(first, others=False)
        await ada.create_task("alone again")
        await until_pinged(received)

    assert (alone, with_another, received.count(ada.user_id)) == (0, 1, 1)


async def test_hints_come_back_after_redis_was_away(
    serve: Serve,
    sql: asyncpg.Connection,
    listen: Listen,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hints, "PING_SECONDS", 0.1)
    monkeypatch.setattr(hints, "RECONNECT_SECONDS", 0.1)
    first, second = [await serve(redis_url=valkey.url, live_check_seconds=60) for _ in range(2)]
    ada = await person_of(first, sql)
    events = await listen(second, ada)
    await events.apply()

    await asyncio.to_thread(valkey.stop)
    await ada.create_task("while it was away")
    await asyncio.to_thread(valkey.start)

    # The new connection looks at everything once.
    assert [each["title"] for each in await events.apply()] == ["while it was away"]
    # What an instance changes before it has its own connection again is no hint to others.
    async with asyncio.timeout(GIVE_UP):
        while first.app.state.twofold.hints.are_lost:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    await ada.create_task("after it")
    assert [each["title"] for each in await events.apply()] == ["after it"]


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b"$-1\r\n", b"*2\r\n:1\r\n:1\r\n", b"\x00\r\n", b"-NO\r\n"]
)
async def test_hints_come_back_after_another_server_answered_in_place_of_redis(
    valkey: Valkey, reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "PING_SECONDS", 0.05)
    monkeypatch.setattr(hints, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(hints, "TIMEOUT", 0.5)
    commands_seen = 0

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal commands_seen
        with suppress(ConnectionError):
            while commands := await reader.read(65536):
                commands_seen += 1
                writer.write(reply * (commands.count(b"\r\n*") + 1))
        writer.close()

    received: list[str] = []
    instance = hints.RedisHints(parse_redis_url(valkey.url), received.append, lambda: None)
    await asyncio.to_thread(valkey.stop)
    async with await asyncio.start_server(respond, "127.0.0.1", valkey.port):
        instance.open()
        async with asyncio.timeout(GIVE_UP):
            # Some attempts, each of which begins with two connections.
            while commands_seen < 10 or not instance.are_lost:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
    await asyncio.to_thread(valkey.start)
    async with asyncio.timeout(GIVE_UP):
        while instance.are_lost:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    async with Redis.from_url(valkey.url) as other:
        while not received:
            await other.publish(hints.CHANNEL, "another:ada")
            await asyncio.sleep(0.01)
    await instance.close()

    assert set(received) == {"ada"}


async def test_the_log_says_why_hints_are_lost_and_they_come_back(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hints, "PING_SECONDS", 0.05)
    monkeypatch.setattr(hints, "RECONNECT_SECONDS", 0.05)
    caplog.set_level("INFO", "twofold.live")
    begun = 0

    def begin() -> None:
        nonlocal begun
        begun += 1

    instance = hints.RedisHints(parse_redis_url(valkey.url), lambda _: None, begin)
    instance.open()
    async with Redis.from_url(valkey.url) as redis, asyncio.timeout(GIVE_UP):
        while begun == 0:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        while begun == 1:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    await instance.close()

    messages = [record.getMessage() for record in records_of(caplog, "twofold.live")]
    assert "ConnectionResetError: Redis closed the connection, at 127.0.0.1" in messages[0]
    assert messages[1:] == ["hints of other instances arrive again"]


async def test_only_its_own_pings_tell_an_instance_that_it_gets_hints(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "PING_SECONDS", 0.05)
    monkeypatch.setattr(hints, "TIMEOUT", 0.3)
    instance = hints.RedisHints(parse_redis_url(valkey.url), lambda _: None, lambda: None)
    async with Redis.from_url(valkey.url) as redis, asyncio.timeout(GIVE_UP):
        # It may publish elsewhere alone, so that no ping comes back.
        monkeypatch.setattr(hints, "CHANNEL", "twofold:elsewhere")
        monkeypatch.setattr(hints._Subscriber, "listen", _listen_to_others)
        instance.open()
        while not instance.are_lost:
            await redis.publish("twofold:changes", "another:ada")
            await asyncio.sleep(0.01)
    await instance.close()


def _listen_to_others(self: Any, deliver: Callable[[str], bool]) -> None:
    self._deliver = deliver
    self._transport.write(b"SUBSCRIBE twofold:changes\r\n")


async def test_without_redis_a_change_through_another_instance_comes_with_the_check(
    serve: Serve, sql: asyncpg.Connection, listen: Listen
) -> None:
    first, second = [await serve(live_check_seconds=1) for _ in range(2)]
    ada = await person_of(first, sql)
    events = await listen(second, ada)
    await events.apply()

    await ada.create_task("water the plants")

    assert [each["title"] for each in await events.apply()] == ["water the plants"]
