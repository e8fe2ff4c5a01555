"""More requests than connections: everyone gets one in their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import Database, PoolSettings, Statement, create_engine
from persistence.errors import Unavailable
from persistence.turns import in_turn

NUMBER = Statement("SELECT $1::int", ("number",), typed=True)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Two connections, one of them for a rush."""
    engine = create_engine(database_url, PoolSettings(1, 1, 0.2, 3600, pre_ping=False))
    yield engine
    await engine.dispose()


async def test_nobody_waits_while_others_are_served_again_and_again(engine: AsyncEngine) -> None:
    until = time.monotonic() + 0.5

    async def ask(number: int) -> int:
        times = 0
        while time.monotonic() < until:
            await Database(engine, 5).read(NUMBER, number=number)
            times += 1
        return times

    served = await asyncio.gather(*(ask(number) for number in range(20)))

    assert max(served) <= 3 * min(served)


async def test_who_waits_longer_than_the_pools_time_out_is_told(engine: AsyncEngine) -> None:
    async with in_turn(engine), in_turn(engine):
        with pytest.raises(Unavailable, match=r"no connection within 0\.2 s"):
            await Database(engine, 5).read(NUMBER, number=7)

    assert await Database(engine, 5).read(NUMBER, number=7)


async def test_who_gives_up_waiting_holds_up_nobody(engine: AsyncEngine) -> None:
    async with in_turn(engine), in_turn(engine):
        waiting = [
            asyncio.create_task(Database(engine, 5).read(NUMBER, number=7)) for _ in range(5)
        ]
        await asyncio.sleep(0.01)
        for task in waiting[:4]:
            task.cancel()

    [*given_up, [[number]]] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in given_up] == [asyncio.CancelledError] * 4
    assert number == 7
    async with in_turn(engine), in_turn(engine):
        pass
