"""More requests than connections: everyone gets one in their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from tests.pools import holding
from tests.trips import TripCounter

NUMBER = Statement("SELECT $1::int", ("number",), typed=True)
NAP = Statement("SELECT pg_sleep(0.01)", ())
LONG = Statement("SELECT pg_sleep(5)", ())
BACKEND = Statement("SELECT pg_backend_pid()", ())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Two connections, one of them for a rush."""
    pool = Pool(database_url, PoolSettings(1, 1, 0.2, 3600, pre_ping=False))
    yield pool
    await pool.close()


async def test_all_viewers_are_served_about_equally_often(pool: Pool) -> None:
    until = time.monotonic() + 0.5

    async def ask(number: int) -> int:
        times = 0
        while time.monotonic() < until:
            await Database(pool, 5, share=str(number)).read(NUMBER, number=number)
            times += 1
        return times

    served = await asyncio.gather(*(ask(number) for number in range(20)))

    assert max(served) <= 3 * min(served)


async def test_a_wait_longer_than_the_pools_time_out_fails(pool: Pool) -> None:
    async with holding(pool, "ada", "bob"):
        with pytest.raises(Unavailable, match=r"no connection within 0\.2 s"):
            await Database(pool, 5).read(NUMBER, number=7)

    assert await Database(pool, 5).read(NUMBER, number=7)


async def test_a_cancelled_wait_delays_no_other(pool: Pool) -> None:
    async with holding(pool, "ada", "bob"):
        waiting = [asyncio.create_task(Database(pool, 5).read(NUMBER, number=7)) for _ in range(5)]
        await asyncio.sleep(0.01)
        for task in waiting[:4]:
            task.cancel()

    [*given_up, [[number]]] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in given_up] == [asyncio.CancelledError] * 4
    assert number == 7
    async with holding(pool, "ada", "bob"):
        pass


async def test_each_wait_is_counted_however_it_ends(pool: Pool) -> None:
    await Database(pool, 5).read(NUMBER, number=7)
    before = pool.waits, pool.waiting, pool.wait_seconds
    async with holding(pool, "ada", "bob"):
        waiting = [asyncio.create_task(Database(pool, 5).read(NUMBER, number=7)) for _ in range(3)]
        while pool.waiting < 3:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert before == (0, 0, 0)
    assert (pool.waiting, pool.waits) == (0, 3)
    assert pool.wait_seconds > 0


# --- A rush -------------------------------------------------------------------------------


async def rush(pool: Pool, times: int = 1) -> None:
    """As many at a time as there are turns."""
    for _ in range(times):
        await asyncio.gather(*(Database(pool, 5, share=name).read(NAP) for name in "abc"))


async def test_what_a_rush_opened_serves_the_next(far: Pool, trips: TripCounter) -> None:
    await rush(far, times=20)

    assert trips.connections == 3


async def test_what_a_rush_opened_is_closed_when_it_has_been_idle_for_long(
    far: Pool, trips: TripCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rush(far)
    monkeypatch.setattr("persistence.pool.LINGER", 0.05)
    await asyncio.sleep(0.1)
    trips.delay = 0.3

    await Database(far, 5).read(NAP)

    # The connections used last stay open; the others close in the background.
    assert (idle(far), trips.open) == (1, 3)
    async with asyncio.timeout(5):
        while trips.open > 1:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
    await Database(far, 5).read(NAP)
    assert trips.connections == 3


async def test_there_are_never_more_connections_than_turns(
    far: Pool, trips: TripCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.pool.LINGER", 0.0)
    trips.delay = 0.02
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, trips.open)
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await rush(far, times=10)
    counting.cancel()

    assert trips.connections > 6, "nothing was closed"
    assert most == 3


async def test_the_connection_used_last_is_used_next(far: Pool) -> None:
    await rush(far)

    backends = [str(await Database(far, 5).read(BACKEND)) for _ in range(5)]

    assert len(set(backends)) == 1


async def test_a_connection_that_was_given_up_leaves_no_place_behind(far: Pool) -> None:
    await rush(far)
    reading = asyncio.create_task(Database(far, 5).read(LONG))
    await asyncio.sleep(0.05)

    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(5):
        while far.in_use:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)

    assert idle(far) == 2


async def test_a_connection_that_was_lost_is_not_kept(far: Pool, trips: TripCounter) -> None:
    await rush(far)
    await trips.drop()

    await rush(far)

    assert (idle(far), trips.connections, trips.open) == (3, 6, 3)


async def test_an_engine_that_is_disposed_of_has_no_connection(
    far: Pool, trips: TripCounter
) -> None:
    await rush(far)

    await far.close()

    assert idle(far) == 0
    async with asyncio.timeout(5):
        while trips.open:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
    await rush(far)


@pytest.fixture
async def trips(database_url: str) -> AsyncIterator[TripCounter]:
    async with TripCounter.before(database_url) as counter:
        yield counter


@pytest.fixture
async def far(trips: TripCounter) -> AsyncIterator[Pool]:
    """One connection that stays, and two for a rush."""
    pool = Pool(trips.url, PoolSettings(1, 2, 5, 3600, pre_ping=False))
    yield pool
    await pool.close()


def idle(pool: Pool) -> int:
    """How many connections lie idle."""
    assert pool.in_use == 0
    return pool.idle


# --- Shares -------------------------------------------------------------------------------


@pytest.fixture
async def four(database_url: str) -> AsyncIterator[Pool]:
    """Four connections: two for each share."""
    pool = Pool(database_url, PoolSettings(4, 0, 5, 3600, pre_ping=False))
    yield pool
    await pool.close()


def shares_in_use(pool: Pool) -> int:
    return pool.shares


async def test_no_share_has_more_than_half_of_the_connections(four: Pool) -> None:
    ada_client = [asyncio.create_task(Database(four, 5, share="ada").read(LONG)) for _ in range(10)]
    await asyncio.sleep(0.2)

    adas_in_use = four.in_use
    bob_client = await asyncio.gather(
        *(Database(four, 5, share="bob").read(NUMBER, number=n) for n in range(10))
    )

    assert adas_in_use == 2
    assert [number for [[number]] in bob_client] == list(range(10))
    assert not any(task.done() for task in ada_client)
    for task in ada_client:
        task.cancel()
    await asyncio.gather(*ada_client, return_exceptions=True)


async def test_of_one_connection_everybody_has_one(database_url: str) -> None:
    pool = Pool(database_url, PoolSettings(1, 0, 5, 3600, pre_ping=False))

    assert await Database(pool, 5, share="ada").read(NUMBER, number=7)
    await pool.close()


async def test_a_share_is_served_in_the_order_of_arrival(four: Pool) -> None:
    order: list[int] = []

    async def ask(number: int) -> None:
        await Database(four, 5, share="ada").read(NAP)
        order.append(number)

    async with holding(four, "ada"):
        await asyncio.gather(*(ask(number) for number in range(20)))

    assert order == list(range(20))


async def test_a_full_queue_is_reported_at_once(
    four: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.pool.MAX_WAITING_STATEMENTS", 3)
    async with holding(four, "ada", "ada"):
        waiting = [
            asyncio.create_task(Database(four, 5, share="ada").read(NUMBER, number=n))
            for n in range(3)
        ]
        await asyncio.sleep(0.01)

        with pytest.raises(Unavailable, match="3 statements of one share wait"):
            await Database(four, 5, share="ada").read(NUMBER, number=7)
        assert await Database(four, 5, share="bob").read(NUMBER, number=7)
        assert not any(task.done() for task in waiting)

    assert len(await asyncio.gather(*waiting)) == 3


async def test_a_wait_in_a_share_fails_by_the_deadline(four: Pool) -> None:
    async with holding(four, "ada", "ada"):
        with pytest.raises(Unavailable, match="TimeoutError: waiting for a connection"):
            await Database(four, 0.1, share="ada").read(NUMBER, number=7)

    assert shares_in_use(four) == 0


@pytest.mark.parametrize("holds_the_pool", [False, True])
async def test_a_cancelled_wait_releases_everything(four: Pool, holds_the_pool: bool) -> None:
    others = ["bob", "bob"] if holds_the_pool else []
    holders = [holding(four, name) for name in ["ada", "eve" if holds_the_pool else "ada", *others]]
    for holder in holders:
        await holder.__aenter__()
    waiting = [
        asyncio.create_task(Database(four, 5, share="ada").read(NUMBER, number=7)) for _ in range(5)
    ]
    await asyncio.sleep(0.01)

    for task in waiting:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    for holder in holders:
        await holder.__aexit__(None, None, None)

    assert [type(each) for each in results] == [asyncio.CancelledError] * 5
    assert shares_in_use(four) == 0
    async with holding(four, "ada", "ada", "b", "b"):
        pass


async def test_a_share_without_a_statement_is_forgotten(four: Pool) -> None:
    for number in range(100):
        await Database(four, 5, share=f"person {number}").read(NUMBER, number=number)

    assert shares_in_use(four) == 0


async def test_a_connection_that_is_given_up_counts_until_it_is_closed(four: Pool) -> None:
    await Database(four, 5, share="ada").read(NUMBER, number=7)
    reading = asyncio.create_task(Database(four, 5, share="ada").read(LONG))
    await asyncio.sleep(0.05)

    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading

    assert shares_in_use(four) == 1
    async with asyncio.timeout(5):
        while shares_in_use(four):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
