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

    def keeps_another(self) -> bool:
        """Whether a connection that comes back now stays open: the pool keeps ``pool_size``."""
        return self.checkedin() < self.size()


def fair_pool(engine: AsyncEngine) -> FairPool:
    """The pool of an engine that ``create_engine`` made."""
    pool = engine.pool
    assert isinstance(pool, FairPool)
    return pool


@asynccontextmanager
async def in_turn(engine: AsyncEngine) -> AsyncIterator[None]:
    """Wait until a connection is due to us, and have it be the next one's afterwards.

    Raises:
        sqlalchemy.exc.TimeoutError: it took longer than the pool's time-out.
    """
    pool = fair_pool(engine)
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
