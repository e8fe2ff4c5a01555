"""Whoever asked first is served first, where there are more requests than connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, with a queue before it.

    By itself it gives a connection that comes back to whoever asks next: who waits is woken,
    finds nothing and waits on. Of 50 people on 25 connections one waited for as long as the
    others went on.
    """

    def __init__(self, creator: Any, pool_size: int, max_overflow: int, **options: Any) -> None:
        super().__init__(creator, pool_size=pool_size, max_overflow=max_overflow, **options)
        self.turns = asyncio.Semaphore(pool_size + max_overflow)


@asynccontextmanager
async def in_turn(engine: AsyncEngine) -> AsyncIterator[None]:
    """Wait until a connection is due to us, and have it be the next one's afterwards.

    Raises:
        sqlalchemy.exc.TimeoutError: it took longer than the pool's time-out.
    """
    pool = engine.pool
    assert isinstance(pool, FairPool)
    if pool.turns.locked():
        try:
            async with asyncio.timeout(pool.timeout()):
                await pool.turns.acquire()
        except TimeoutError:
            raise exc.TimeoutError(f"no connection within {pool.timeout():g} s") from None
    else:
        await pool.turns.acquire()
    try:
        yield
    finally:
        pool.turns.release()
