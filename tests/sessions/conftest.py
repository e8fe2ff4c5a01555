"""Fixtures: a service on a database with any layout of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import new_database, run_sql
from tests.sessions.layouts import (
    Layout,
    NewService,
    Service,
    copied_database,
    open_service,
)
from tests.trips import TripCounter


@pytest.fixture(scope="session")
async def migrated(postgres: Postgres) -> str:
    """The name of a database with our tables and nothing else, to be copied."""
    url = await new_database(postgres, "migrated")
    await asyncio.to_thread(upgrade, url)
    return "migrated"


@pytest.fixture
async def new_service(postgres: Postgres, migrated: str) -> NewService:
    """Starts services: ``async with new_service(layout, **settings) as service``."""

    @asynccontextmanager
    async def make(layout: Layout, before: str = "", **settings: Any) -> AsyncIterator[Service]:
        url = await copied_database(postgres, migrated)
        await run_sql(url, f"SELECT; {layout.tables}; {before}")
        async with open_service(url, layout, **settings) as service:
            yield service

    return make


@pytest.fixture
async def counted(
    postgres: Postgres, migrated: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Service, TripCounter]]:
    """A warm service whose round trips are counted, in the layout that the test names."""
    layout: Layout = request.param
    url = await copied_database(postgres, migrated)
    await run_sql(url, layout.tables)
    async with TripCounter.before(url) as trips, open_service(trips.url, layout) as service:
        assert await service.status(await service.session()) == 200
        yield service, trips
