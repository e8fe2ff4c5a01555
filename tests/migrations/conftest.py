"""An empty database, and a look at it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.pool import Pool, PoolSettings
from tests.conftest import new_database


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """An empty database."""
    return await new_database(postgres, f"migrations_{secrets.token_hex(6)}")


@pytest.fixture
async def sql(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A look at it."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """The app's way to it."""
    pool = Pool(url, PoolSettings(1, 0, 30, 3600, True))
    yield Database(pool, 10)
    await pool.close()
