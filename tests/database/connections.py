"""Connections and processes of a PostgreSQL that the tests disturb."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import asyncpg

from persistence.database import Database
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from tests.control import GIVE_UP

ONE = Statement("SELECT 1", ())
BACKEND = Statement("SELECT pg_backend_pid()", ())
SLEEP = Statement("SELECT pg_sleep($1)", ("seconds",))


@asynccontextmanager
async def a_pool(url: str, size: int = 1, **changes: Any) -> AsyncIterator[Pool]:
    settings = {"size": size, "max_overflow": 0, "timeout": 30, "recycle": 3600, "pre_ping": True}
    pool = Pool(url, PoolSettings(**(settings | changes)))
    try:
        yield pool
    finally:
        await pool.close()


async def backend_of(pool: Pool) -> int:
    """The server's process behind the pool's one connection."""
    [[pid]] = await Database(pool, 10).read(BACKEND)
    return int(pid)


Taking = Callable[..., AbstractContextManager[None]]


async def running(url: str, fragment: str) -> int:
    """How many other connections are busy with such a statement."""
    connection = await asyncpg.connect(url)
    busy: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()",
        f"%{fragment}%",
    )
    await connection.close()
    return busy


async def until_running(url: str, fragment: str, wanted: int) -> None:
    deadline = time.monotonic() + GIVE_UP
    while await running(url, fragment) != wanted:
        assert time.monotonic() < deadline, f"not {wanted} times {fragment}"
        await asyncio.sleep(0.01)
