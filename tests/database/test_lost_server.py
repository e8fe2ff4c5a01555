"""A PostgreSQL that restarts, is down, or closes connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from persistence import database
from persistence.connection import Connection, connect
from persistence.database import Database
from persistence.driver_errors import connection_lost
from persistence.embedded.postgres import Postgres
from persistence.errors import Unavailable
from persistence.pool import RECONNECT_SECONDS, Pool
from persistence.sql import Statement
from persistence.urls import DatabaseURL
from tests.conftest import run_sql
from tests.database.connections import (
    BACKEND,
    ONE,
    SLEEP,
    Taking,
    a_pool,
    backend_of,
    until_running,
)

COUNTED_SLEEP = Statement("SELECT nextval('runs'), pg_sleep($1)", ("seconds",))


async def terminate(url: str, pids: str) -> None:
    """End other connections from the server's side, and wait until they are gone."""
    ended = f"SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE {pids}"  # noqa: S608
    await run_sql(url, f"{ended} AND pid <> pg_backend_pid()")


async def test_reads_ride_out_a_restart(server: Postgres, url: str) -> None:
    async with a_pool(url, size=5) as pool:
        over = asyncio.Event()
        readers = [asyncio.create_task(read_until(over, pool)) for _ in range(10)]
        await asyncio.sleep(0.1)

        async with down(server):
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        over.set()

        assert min(await asyncio.gather(*readers)) > 5


async def read_until(over: asyncio.Event, pool: Pool) -> int:
    """Read again and again, as requests do. Returns how often."""
    times = 0
    while not over.is_set():
        await Database(pool, 10).read(ONE)
        await asyncio.sleep(0.005)
        times += 1
    return times


async def test_a_server_that_is_down_is_unavailable_by_the_deadline(
    server: Postgres, pool: Pool, taking: Taking
) -> None:
    async with down(server):
        for ask in (Database.read, Database.write):
            with taking(0.2, 2), pytest.raises(Unavailable) as raised:
                await ask(Database(pool, 0.2), ONE)
            assert "TimeoutError: connecting, after ConnectionRefusedError: " in str(raised.value)

    assert await Database(pool, 10).write(ONE)


async def test_a_server_that_stays_down_is_given_up_before_the_deadline(
    server: Postgres, pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    monkeypatch.setattr(database, "RETRY_FOR", 0.1)

    async with down(server):
        with taking(at_most=2), pytest.raises(Unavailable, match="ConnectionRefusedError"):
            await Database(pool, 10).read(ONE)


@asynccontextmanager
async def down(server: Postgres) -> AsyncIterator[None]:
    """Stopped in order, its connections closed, and started again on the same port."""
    # In a thread, so that clients go on; starting is for this one, which the server dies with.
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        server.start()


async def test_a_time_out_is_not_tried_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def time_out(_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise TimeoutError

    monkeypatch.setattr("persistence.pool.connect", time_out)

    with pytest.raises(Unavailable, match="TimeoutError"):
        await Database(pool, 10).read(ONE)

    assert isinstance(TimeoutError(), OSError)
    assert not connection_lost(TimeoutError())
    assert attempts == 1


async def test_a_server_out_of_connections_is_asked_again(server: Postgres, url: str) -> None:
    await run_sql(url, "CREATE ROLE few LOGIN CONNECTION LIMIT 1 PASSWORD 'few'")
    few = url.replace(f"{server.user}:{server.password}", "few:few")

    async with a_pool(few, size=4) as pool:
        waiting = [Database(pool, 5).write(SLEEP, seconds=0.05) for _ in range(8)]

        assert len(await asyncio.gather(*waiting)) == 8


async def test_connections_that_are_lost_as_soon_as_they_are_made_are_replaced(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    async def lose(database: DatabaseURL) -> Connection:
        nonlocal made
        made += 1
        connection = await connect(database)
        if made < 5:
            connection.terminate()
        return connection

    monkeypatch.setattr("persistence.pool.connect", lose)

    assert await Database(pool, 10).write(ONE)
    assert made == 5


async def test_a_server_that_recovers_is_not_asked_by_each_statement_that_waits(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    began = time.monotonic()

    async def recover(database: DatabaseURL) -> Connection:
        nonlocal refused
        if time.monotonic() < began + 1:
            refused += 1
            raise asyncpg.CannotConnectNowError("the database system is starting up")
        return await connect(database)

    monkeypatch.setattr("persistence.pool.connect", recover)

    async with a_pool(url, size=10) as pool:
        reads = [Database(pool, 10).read(ONE) for _ in range(100)]

        assert len(await asyncio.gather(*reads)) == 100

    # All ten connections of the pool are tried at the same moment, before the first refusal.
    assert 1 < refused <= 10 + 1 / RECONNECT_SECONDS


async def test_the_log_says_why_a_server_refuses_all_connections(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: DatabaseURL) -> Connection:
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    monkeypatch.setattr("persistence.pool.connect", refuse)
    monkeypatch.setattr(database, "RETRY_FOR", 0.05)
    reason = "database: CannotConnectNowError: the database system is starting up"

    async with a_pool(url) as pool:
        for _ in range(2):  # The second one is in the time in which nothing is tried.
            with pytest.raises(Unavailable, match=f"^{reason}$"):
                await Database(pool, 10).read(ONE)


async def test_a_closed_idle_connection_is_replaced_without_a_failed_write(
    url: str, pool: Pool
) -> None:
    before = await backend_of(pool)

    await terminate(url, f"pid = {before}")
    await asyncio.sleep(0.01)
    [[after]] = await Database(pool, 5).write(BACKEND)

    assert after != before


async def test_a_write_that_may_have_happened_is_not_repeated(url: str, pool: Pool) -> None:
    await run_sql(url, "ALTER SEQUENCE runs RESTART")
    writing = asyncio.create_task(Database(pool, 10).write(COUNTED_SLEEP, seconds=5))
    await until_running(url, "nextval", 1)

    await terminate(url, "query LIKE '%nextval%'")
    with pytest.raises(Unavailable, match="terminating connection"):
        await writing

    [[next_run]] = await Database(pool, 5).read(Statement("SELECT nextval('runs')", ()))
    assert next_run == 2


async def test_a_read_whose_connection_is_lost_runs_again(url: str, pool: Pool) -> None:
    await run_sql(url, "ALTER SEQUENCE runs RESTART")
    reading = asyncio.create_task(Database(pool, 10).read(COUNTED_SLEEP, seconds=0.3))
    await until_running(url, "nextval", 1)

    await terminate(url, "query LIKE '%nextval%'")

    assert [record["nextval"] for record in await reading] == [2]


async def test_a_connection_that_was_terminated_is_not_met_again(url: str, pool: Pool) -> None:
    suicide = Statement("SELECT pg_terminate_backend(pg_backend_pid())", ())
    for _ in range(20):
        with pytest.raises(Unavailable, match="terminating connection"):
            await Database(pool, 5).write(suicide)

        assert await Database(pool, 5).write(ONE)
