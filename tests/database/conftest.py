"""A PostgreSQL of its own for each file, with a pool."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.pool import Pool
from tests.conftest import new_database, run_sql
from tests.control import GIVE_UP, Control
from tests.database.connections import Taking, a_pool


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that may be stopped, restarted and maltreated."""
    with embedded_postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="module")
async def url(server: Postgres) -> str:
    """A database with a sequence, which counts runs whether or not they are rolled back."""
    url = await new_database(server, "pool")
    await run_sql(url, "CREATE SEQUENCE runs; CREATE TABLE changing (value int)")
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Pool]:
    """One connection, no more: whatever breaks it is seen by the next."""
    async with a_pool(url) as pool:
        yield pool


@pytest.fixture(scope="module")
async def control() -> AsyncIterator[Control]:
    """How late the machine itself is, all the time."""
    async with Control.running() as control:
        yield control


@pytest.fixture
def taking(control: Control) -> Taking:
    """Bounds the seconds of a block, as on an idle machine: ``with taking(at_most=2)``."""

    @contextmanager
    def measure(at_least: float = 0.0, at_most: float = GIVE_UP) -> Iterator[None]:
        control.slowest = 0.0
        started = time.monotonic()
        yield
        assert at_least <= time.monotonic() - started <= control.bound(at_most)

    return measure
