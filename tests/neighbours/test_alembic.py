"""Another application that migrates the same database with Alembic."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys

import asyncpg
import httpx
import pytest
from alembic.script import ScriptDirectory

from persistence.embedded.postgres import Postgres
from persistence.migrations import CannotMigrate, config, upgrade
from tests.conftest import ROOT, new_database, run_sql
from tests.neighbours.databases import both_adas, client_of, new_installation

OURS = ScriptDirectory.from_config(config()).get_current_head()
THEIRS = "27c6a30d7c24"
THEIR_ROW = "INSERT INTO alembic_version VALUES ('27c6a30d7c24')"
SHARED = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """An empty database."""
    return await new_database(postgres, f"alembic_{secrets.token_hex(6)}")


async def rows(url: str, table: str) -> list[str] | None:
    """The revisions in a table; ``None`` if there is no such table."""
    sql = await asyncpg.connect(url)
    try:
        if not await sql.fetchval("SELECT to_regclass($1)", table):
            return None
        records = await sql.fetch(f"SELECT version_num FROM {table} ORDER BY 1")  # noqa: S608
    finally:
        await sql.close()
    return [row[0] for row in records]


async def former_installation(url: str) -> None:
    """Make it an installation of a release that used Alembic's own table."""
    await asyncio.to_thread(upgrade, url)
    await run_sql(
        url,
        "ALTER TABLE twofold_alembic_version RENAME TO alembic_version;"
        "ALTER INDEX twofold_alembic_version_pkc RENAME TO alembic_version_pkc",
    )


async def test_a_foreign_revision_stops_no_migration_and_stays(url: str) -> None:
    await run_sql(url, f"{SHARED}; {THEIR_ROW}")

    for _ in range(2):
        await asyncio.to_thread(upgrade, url)

    assert await rows(url, "alembic_version") == [THEIRS]
    assert await rows(url, "twofold_alembic_version") == [OURS]


async def test_an_installation_of_the_release_before_is_adopted_in_two_migrations(
    url: str,
) -> None:
    await former_installation(url)

    await asyncio.to_thread(upgrade, url)
    # Instances of the release before read the old table during the deploy.
    during = await rows(url, "alembic_version"), await rows(url, "twofold_alembic_version")
    await asyncio.to_thread(upgrade, url)

    assert during == ([OURS], [OURS])
    assert await rows(url, "alembic_version") == []
    assert await rows(url, "twofold_alembic_version") == [OURS]


async def test_a_table_of_that_name_that_is_not_alembics_stops_no_migration(url: str) -> None:
    await run_sql(url, "CREATE TABLE alembic_version (theirs int)")

    await asyncio.to_thread(upgrade, url)

    assert await rows(url, "twofold_alembic_version") == [OURS]


async def test_no_second_installation_hides_the_first(url: str) -> None:
    await asyncio.to_thread(upgrade, url)

    with pytest.raises(CannotMigrate, match="twofold move-tables"):
        await asyncio.to_thread(upgrade, url, "twofold")


async def test_our_revision_no_longer_stops_the_other_application(url: str) -> None:
    await former_installation(url)
    await run_sql(url, THEIR_ROW)

    await asyncio.to_thread(upgrade, url)

    assert await rows(url, "alembic_version") == [THEIRS]
    assert await rows(url, "twofold_alembic_version") == [OURS]


async def test_a_table_that_we_may_not_read_stops_no_migration(postgres: Postgres) -> None:
    name = f"alembic_{secrets.token_hex(6)}"
    url = await new_database(postgres, name)
    role = f"twofold_{secrets.token_hex(6)}"
    await run_sql(
        url,
        f"{SHARED}; CREATE ROLE {role} LOGIN PASSWORD '{role}';"
        f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
    )
    limited = url.replace(url.partition("//")[2].partition("@")[0], f"{role}:{role}")

    await asyncio.to_thread(upgrade, limited)

    assert await rows(url, "twofold_alembic_version") == [OURS]


async def test_instances_that_migrate_at_once_adopt_once(url: str) -> None:
    await former_installation(url)
    await run_sql(url, THEIR_ROW)

    async def migrate() -> int:
        # A process each, as instances are.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.cli", "migrate",
            cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return await process.wait()

    codes = await asyncio.gather(*(migrate() for _ in range(3)))

    assert codes == [0, 0, 0]
    assert await rows(url, "alembic_version") == [THEIRS]
    assert await rows(url, "twofold_alembic_version") == [OURS]


# --- A schema of our own ------------------------------------------------------------------


async def test_in_a_schema_of_our_own_everything_works_and_public_stays_as_it_was(
    postgres: Postgres,
) -> None:
    url = await new_installation(postgres, schema="ours")
    await run_sql(url, "CREATE TABLE public.tasks (theirs int)")

    async with client_of(url, database_schema="ours") as client:
        ready = await client.get("/health/ready")
        for ada in await both_adas(url, client):
            task = await ada.create_task("water the plants")
            await ada.change_task(task.id, title="water the cactus")
            assert [each.title for each in (await ada.list_tasks()).tasks] == ["water the cactus"]
            assert (await ada.get_task(task.id)).version == 2
            await ada.delete_task(task.id)
        await both_deletions(url, client)

    assert ready.status_code == 200
    assert await rows(url, "public.twofold_alembic_version") is None
    assert await rows(url, "ours.twofold_alembic_version") == [OURS]


async def both_deletions(url: str, client: httpx.AsyncClient) -> None:
    """Delete many, and count, through both protocols."""
    for ada in await both_adas(url, client):
        tasks = [await ada.create_task(f"task {number}") for number in range(3)]
        gone = await ada.delete_tasks([task.id for task in tasks])
        assert gone.deleted == [task.id for task in tasks]
