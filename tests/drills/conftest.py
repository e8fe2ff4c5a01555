"""Servers of the drills' own, and instances of the service on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.migrations import upgrade
from tests.conftest import new_database, run_sql
from tests.drills.service import Service, new_token
from tests.people import SESSION_TABLES


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Postgres]:
    """A durable PostgreSQL: what it acknowledged survives a crash of its processes.

    Not one of the machine: after a crash, syncing every file of the data took up to four seconds
    of the eight for which the service waits.
    """
    with embedded_postgres(durable=True) as server:
        await run_sql(server.url(), "ALTER SYSTEM SET fsync = off")
        await run_sql(server.url(), "SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Redis, for the budgets."""
    with embedded_valkey() as server:
        yield server


@pytest.fixture(scope="module")
async def url(server: Postgres) -> str:
    """A migrated database."""
    url = await new_database(server, "drills")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    return url


@pytest.fixture(scope="module")
async def token(url: str) -> str:
    """Ada's token."""
    return await new_token(url, "ada")


@pytest.fixture(scope="module")
async def patient(
    url: str, token: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """An instance with the default deadline."""
    log = tmp_path_factory.mktemp("patient") / "log"
    async with Service.on(url, log, token, name="patient", deadline=10) as service:
        yield service


@pytest.fixture(scope="module")
async def hasty(
    url: str, token: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """An instance with a deadline of one second."""
    log = tmp_path_factory.mktemp("hasty") / "log"
    async with Service.on(url, log, token, name="hasty", deadline=1) as service:
        yield service


@pytest.fixture(scope="module")
async def limited(
    url: str, token: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """An instance with budgets in Redis, and short time-outs of both servers."""
    log = tmp_path_factory.mktemp("limited") / "log"
    async with Service.on(
        url, log, token, name="limited", deadline=2,
        REDIS_URL=valkey.url, RATE_LIMIT_ENABLED="true", RATE_LIMIT_TIMEOUT_MS="300",
        RATE_LIMIT_READ="1000000/minute", RATE_LIMIT_WRITE="1000000/minute",
    ) as service:  # fmt: skip
        yield service
