"""Callers that are cancelled leave no connection and no statement behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from asyncpg import connect_utils

from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Pool
from tests.control import GIVE_UP
from tests.database.connections import ONE, SLEEP, Taking, a_pool, running, until_running


async def test_a_statement_cancelled_half_way_leaves_the_pool_healthy(
    url: str, pool: Pool, taking: Taking
) -> None:
    reading = asyncio.create_task(Database(pool, 10).read(SLEEP, seconds=5))
    await until_running(url, "pg_sleep", 1)

    reading.cancel()
    with taking(at_most=2), pytest.raises(asyncio.CancelledError):
        await reading

    assert await Database(pool, 1).read(ONE)


@pytest.mark.parametrize("seconds", [0.001, 0.003, 0.01, 0.03])
async def test_being_cancelled_at_any_moment_leaks_no_connection(url: str, seconds: float) -> None:
    async with a_pool(url, size=3) as pool:
        for times in range(30):
            request = asyncio.create_task(Database(pool, 5).read(SLEEP, seconds=0.005))
            await asyncio.sleep(seconds * times / 30)
            request.cancel()
            await asyncio.sleep(0)
            request.cancel()
            with suppress(asyncio.CancelledError):
                await request

        await until_all_are_back(pool)
        assert await Database(pool, 1).read(ONE)


async def until_all_are_back(pool: Pool) -> None:
    async with asyncio.timeout(GIVE_UP):
        while pool.in_use:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def test_nothing_goes_on_in_the_server_once_the_deadline_has_passed(
    url: str, pool: Pool, taking: Taking
) -> None:
    with taking(at_most=2), pytest.raises(Unavailable, match="TimeoutError"):
        await Database(pool, 0.2).write(SLEEP, seconds=5)

    await asyncio.sleep(0.05)
    assert await running(url, "pg_sleep") == 0


async def test_a_cancellation_that_arrives_before_its_statement_is_asked_for_again(
    url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = connect_utils._cancel
    times = 0

    async def lose_the_first(**options: Any) -> None:
        nonlocal times
        times += 1
        if times > 1:
            await cancel(**options)

    monkeypatch.setattr(connect_utils, "_cancel", lose_the_first)

    with pytest.raises(Unavailable, match="TimeoutError"):
        await Database(pool, 0.2).write(SLEEP, seconds=2 * GIVE_UP)

    await until_running(url, "pg_sleep", 0)
    assert times == 2
    assert await Database(pool, 5).write(ONE)
