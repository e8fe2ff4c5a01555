"""The deadline of one request over all its statements."""

from __future__ import annotations

import asyncio
import time

import pytest

from persistence.connection import Connection
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Lease, Pool
from tests.database.connections import ONE, SLEEP, Taking, a_pool, backend_of, until_running
from tests.pools import holding


async def test_the_deadline_covers_waiting_for_the_pool(pool: Pool, taking: Taking) -> None:
    async with holding(pool):
        with (
            taking(0.2, 1),
            pytest.raises(Unavailable, match=r"TimeoutError: waiting for a connection$"),
        ):
            await Database(pool, 0.2).read(ONE)

    assert await Database(pool, 0.2).read(ONE)


async def test_the_deadline_is_one_over_all_statements(pool: Pool, taking: Taking) -> None:
    db = Database(pool, 2)
    await db.read(SLEEP, seconds=1)

    # Less than a deadline of its own would be.
    with taking(at_most=1.5), pytest.raises(Unavailable, match="TimeoutError"):
        await db.write(SLEEP, seconds=60)

    with taking(at_most=0.5), pytest.raises(Unavailable, match="TimeoutError"):
        await db.read(SLEEP, seconds=60)


async def test_the_time_between_statements_does_not_count(pool: Pool) -> None:
    await backend_of(pool)
    db = Database(pool, 0.3)
    await db.read(ONE)

    await asyncio.sleep(0.4)

    assert await db.read(ONE)


async def test_the_time_of_concurrent_statements_counts_once(url: str) -> None:
    async with a_pool(url, size=8) as pool:
        db = Database(pool, 1.5)

        await asyncio.gather(*(db.read(SLEEP, seconds=0.4) for _ in range(8)))

        assert await db.read(ONE)


async def test_one_request_has_at_most_four_statements_under_way(url: str, taking: Taking) -> None:
    async with a_pool(url, size=10) as pool:
        db = Database(pool, 5)
        sleeps = [asyncio.create_task(db.read(SLEEP, seconds=0.5)) for _ in range(10)]
        await until_running(url, "pg_sleep", 4)
        in_use = pool.in_use

        with taking(at_most=0.3):
            assert await Database(pool, 5).read(ONE)

        assert in_use == 4
        assert len(await asyncio.gather(*sleeps)) == 10


async def test_waiting_for_the_others_of_a_request_counts_towards_its_deadline(
    url: str, taking: Taking
) -> None:
    async with a_pool(url, size=10) as pool:
        db = Database(pool, 2)

        with taking(at_most=2.4):
            results = await asyncio.gather(
                *(db.read(SLEEP, seconds=1.2) for _ in range(12)), return_exceptions=True
            )

    assert [isinstance(each, Unavailable) for each in results] == [False] * 4 + [True] * 8


async def test_when_the_deadline_has_passed_nothing_is_sent(pool: Pool, taking: Taking) -> None:
    before = await backend_of(pool)
    db = Database(pool, 0.2)
    with pytest.raises(Unavailable):
        await db.read(SLEEP, seconds=1)

    with taking(at_most=0.1), pytest.raises(Unavailable, match="none of the deadline is left"):
        await db.write(ONE)

    after = await backend_of(pool)
    with pytest.raises(Unavailable, match="none of the deadline is left"):
        await db.write(ONE)
    assert after != before
    assert await backend_of(pool) == after


async def test_more_requests_than_connections_take_turns(url: str) -> None:
    async with a_pool(url, size=2) as pool:
        sleeps = [Database(pool, 5).read(SLEEP, seconds=0.02) for _ in range(20)]

        assert len(await asyncio.gather(*sleeps)) == 20
        assert pool.in_use == 0


async def test_a_deadline_that_passes_while_a_connection_is_opened_returns_its_place(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_one = Lease.connect

    async def connect(lease: Lease) -> Connection:
        connection = await open_one(lease)
        time.sleep(1.1)  # noqa: ASYNC251  # the event loop is busy, so that no timer ends the wait
        return connection

    async with a_pool(url, size=1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "connect", connect)
            with pytest.raises(Unavailable, match="none of the deadline is left"):
                await Database(pool, 1).read(ONE)

        assert pool.in_use == 0
        assert await Database(pool, 5).read(ONE)


async def test_a_pool_that_gives_up_before_the_deadline_is_as_unavailable(
    url: str, taking: Taking
) -> None:
    async with a_pool(url, timeout=0.1) as pool, holding(pool):
        with taking(0.1, 1), pytest.raises(Unavailable, match="no connection within"):
            await Database(pool, 10).read(ONE)
