"""A PostgreSQL that is stopped, and connections that are lost in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.errors import Unavailable
from persistence.pool import Pool
from tests.database.connections import BACKEND, ONE, Taking, a_pool, backend_of
from tests.trips import TripCounter


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that neither answer nor end."""
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def everyone(server: Postgres) -> list[int]:
    main = psutil.Process(server.process.pid)
    return [main.pid, *(child.pid for child in main.children(recursive=True))]


async def test_a_stopped_server_is_distinguished_from_a_slow_one_by_the_deadline(
    server: Postgres, pool: Pool, taking: Taking
) -> None:
    before = await backend_of(pool)

    with stopped(*everyone(server)):
        with (
            taking(0.3, 2),
            pytest.raises(Unavailable, match=r"TimeoutError: running the statement$"),
        ):
            await Database(pool, 0.3).read(ONE)
        with taking(0.3, 2), pytest.raises(Unavailable, match=r"TimeoutError: connecting$"):
            # Which needs a new connection, as soon as the old one is given up.
            await Database(pool, 1).write(ONE)

    assert await backend_of(pool) != before


async def test_a_ping_of_a_stopped_server_ends_with_the_deadline_too(
    server: Postgres, pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    await backend_of(pool)
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)

    with stopped(*everyone(server)), taking(0.3, 2), pytest.raises(Unavailable):
        await Database(pool, 0.3).read(ONE)


async def test_a_connection_lost_in_silence_costs_a_write_a_ping_and_no_failure(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    silent = await backend_of(pool)
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)
    monkeypatch.setattr("persistence.connection.PING_TIMEOUT", 0.2)

    with stopped(silent), taking(0.2, 1):
        [[fresh]] = await Database(pool, 5).write(BACKEND)

    assert fresh != silent


async def test_only_a_connection_that_lay_idle_for_long_is_pinged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TripCounter.before(url) as trips, a_pool(trips.url) as pool:
        await Database(pool, 5).read(ONE)

        assert await trips_of(trips, pool) == 1
        monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)
        assert await trips_of(trips, pool) == 2


async def test_without_pre_ping_nothing_is_pinged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)

    async with TripCounter.before(url) as trips, a_pool(trips.url, pre_ping=False) as pool:
        await Database(pool, 5).read(ONE)

        assert await trips_of(trips, pool) == 1


async def trips_of(trips: TripCounter, pool: Pool) -> int:
    """The round trips of one read on a connection that is warm."""
    before = trips.count
    await Database(pool, 5).read(ONE)
    return trips.count - before
