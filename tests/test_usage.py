"""What a request has used of PostgreSQL and Redis is counted in its context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from persistence.usage import Usage

NAP = Statement("SELECT pg_sleep(0.05)::text", ())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """One connection."""
    pool = Pool(database_url, PoolSettings(1, 0, 5, -1, False))
    yield pool
    await pool.close()


async def test_statements_are_counted_and_their_time_is_added(pool: Pool) -> None:
    usage = Usage()
    db = Database(pool, 5, usage=usage)

    await db.read(NAP)
    await db.read(NAP)

    assert usage.statements == 2
    assert usage.database >= 0.1
    assert usage.waiting < usage.database


async def test_a_wait_for_a_connection_is_not_time_in_the_database(pool: Pool) -> None:
    first, second = Usage(), Usage()

    await asyncio.gather(
        Database(pool, 5, "ada", usage=first).read(NAP),
        Database(pool, 5, "bob", usage=second).read(NAP),
    )

    assert second.waiting >= 0.05 > first.waiting


async def test_a_statement_that_fails_is_counted(pool: Pool) -> None:
    usage = Usage()

    with pytest.raises(Unavailable):
        await Database(pool, 0.02, usage=usage).read(NAP)

    assert usage.statements == 1
    assert usage.database > 0
