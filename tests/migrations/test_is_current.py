"""Whether a database has the schema of this build: never migrated, behind, ahead."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from persistence import schema_check
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.migrations import CannotMigrate, upgrade
from persistence.schema_check import BEHIND, find_schema_problem
from persistence.sessions.store import UnusableSessions
from tests.conftest import ROOT, run_sql, settings_of_tests
from tests.drills.service import connected
from tests.migrations.running import (
    VERSIONS,
    migrate,
    migrate_back,
    tables,
)
from tests.people import SESSION_TABLES


async def test_a_database_that_was_never_migrated_is_not_current(db: Database) -> None:
    assert await find_schema_problem(db, "pg_class") == BEHIND


async def test_a_migrated_database_is_current(url: str, db: Database) -> None:
    await migrate(url)

    assert await find_schema_problem(db, "pg_class") is None


async def test_a_database_that_was_migrated_back_is_not_current(url: str, db: Database) -> None:
    await migrate(url)
    await migrate_back(url)

    assert await find_schema_problem(db, "pg_class") == BEHIND


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A build with one migration more."""
    scripts = tmp_path / "alembic"
    shutil.copytree(ROOT / "alembic", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    [newest] = re.findall(r'^revision = "(.+)"$', VERSIONS[-1].read_text(), re.M)
    (scripts / "versions" / "2099_01_01_next.py").write_text(
        f'from alembic import op\nrevision = "2099_01_01_next"\ndown_revision = "{newest}"\n'
        'def upgrade() -> None:\n    op.execute("ALTER TABLE tasks ADD due date")\n'
        'def downgrade() -> None:\n    op.execute("ALTER TABLE tasks DROP due")\n'
    )
    monkeypatch.setattr(schema_check, "script_location", lambda: scripts)
    schema_check.revisions.cache_clear()
    yield
    schema_check.revisions.cache_clear()


@pytest.mark.usefixtures("next_release")
async def test_a_database_behind_the_build_is_not_current_until_it_is_migrated(
    url: str, db: Database
) -> None:
    await migrate(url, VERSIONS[-1].stem)
    assert await find_schema_problem(db, "pg_class") == BEHIND

    await migrate(url)

    assert await find_schema_problem(db, "pg_class") is None


async def test_a_database_ahead_of_the_build_is_current(
    url: str, db: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_this_build = schema_check.script_location
    request.getfixturevalue("next_release")
    await migrate(url)

    monkeypatch.setattr(schema_check, "script_location", of_this_build)
    schema_check.revisions.cache_clear()

    assert await find_schema_problem(db, "pg_class") is None


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: Postgres, encoding: str
) -> None:
    name = f"other_{secrets.token_hex(6)}"
    made = f"CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0"
    await run_sql(postgres.url("postgres"), made)
    url = postgres.url(name)
    await run_sql(url, SESSION_TABLES)
    refusal = f"The encoding of the database is {encoding}; it has to be UTF8."

    with pytest.raises(CannotMigrate, match=refusal):
        await asyncio.to_thread(upgrade, url)
    app = create_app(settings_of_tests(database_url=url))
    with pytest.raises(UnusableSessions, match=refusal):
        async with app.router.lifespan_context(app):
            pass

    async with connected(url) as sql:
        assert "tasks" not in await tables(sql)
