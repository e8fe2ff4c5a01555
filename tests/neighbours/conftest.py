"""A database of its own for each test, and a role without any privilege beyond serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.engine import make_url

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import new_database, run_sql
from tests.people import SESSION_TABLES

RIGHTS = """
    GRANT SELECT, INSERT, UPDATE, DELETE ON tasks, idempotency_keys TO servant;
    GRANT SELECT ON feeds, twofold_alembic_version, user_sessions TO servant;
"""


@pytest.fixture
async def owners(postgres: Postgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a new migrated database with session tables, as its owner."""
    name = f"neighbour_{abs(hash(request.node.nodeid))}"
    url = await new_database(postgres, name)
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, f"{SESSION_TABLES}; CREATE ROLE servant LOGIN PASSWORD 'pw'; {RIGHTS}")
    yield url
    await run_sql(url, "DROP OWNED BY servant; DROP ROLE servant")


@pytest.fixture
def servants(owners: str) -> str:
    """The URL of the same database as a role that may do what serving needs, and no more."""
    url = make_url(owners).set(username="servant", password="pw")
    return url.render_as_string(hide_password=False)
