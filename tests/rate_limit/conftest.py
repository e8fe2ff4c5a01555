"""A Valkey, windows on it, and instances of the service with budgets on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from tests.rate_limit.servers import opened


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A look into Valkey behind the app's back; empty at the beginning."""
    async with Redis.from_url(valkey.url, decode_responses=True) as connection:
        await connection.flushall()
        yield connection


@pytest.fixture
async def windows(valkey: Valkey, redis: Redis) -> AsyncIterator[RedisSlidingWindow]:
    async with opened(valkey.url) as windows:
        yield windows


@pytest.fixture
def separate_redis() -> Iterator[Valkey]:
    """A Valkey of the test's own, to be ill-treated."""
    with embedded_valkey() as server:
        yield server
