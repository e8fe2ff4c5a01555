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

from api import cli
from persistence.embedded.postgres import Postgres
from persistence.migrations import CannotMigrate, upgrade
from tests.conftest import ROOT, new_database, run_sql
from tests.neighbours.databases import both_adas, client_of, new_installation

OURS = "2026_11_22_create_tasks"
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
        found = await sql.fetch(f"SELECT version_num FROM {table} ORDER BY 1")  # noqa: S608
    finally:
        await sql.close()
    return [row[0] for row in found]


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


async def test_an_installation_is_moved_with_all_that_it_has(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await new_installation(postgres)
    async with client_of(url) as client:
        ada, _ = await both_adas(url, client)
        first = await ada.create_task("water the plants")
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_SCHEMA", "twofold")

    moved = await asyncio.to_thread(cli.main, ["move-tables"])
    again = await asyncio.to_thread(cli.main, ["move-tables"])
    migrated = await asyncio.to_thread(cli.main, ["migrate"])
    async with client_of(url, database_schema="twofold") as client:
        ada, _ = await both_adas(url, client)
        second = await ada.create_task("feed the cat")
        titles = [task.title for task in (await ada.list_tasks()).tasks]

    assert (moved, again, migrated) == (0, 1, 0)
    assert "The schema twofold has a table tasks already." in capsys.readouterr().err
    assert titles == ["feed the cat", "water the plants"]
    assert second.id > first.id


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("", "DATABASE_SCHEMA is not set"),
        ("twofold", "There is no table tasks to move."),
        ("Two fold", "DATABASE_SCHEMA: 'Two fold' is not a schema's name"),
        ("x; DROP TABLE users", "is not a schema's name"),
        ("pg_temp", "'pg_temp' is one of PostgreSQL's own schemas"),
    ],
)
async def test_what_cannot_be_moved_is_said_in_a_sentence(
    schema: str,
    problem: str,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_SCHEMA", schema)

    assert await asyncio.to_thread(cli.main, ["move-tables"]) in (1, 2)

    said = capsys.readouterr().err
    assert problem in said
    assert "Traceback" not in said


# --- A user who gets another id -----------------------------------------------------------


async def test_the_tasks_of_an_anonymous_visitor_go_to_the_account(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await new_installation(postgres)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await run_sql(
        url,
        "INSERT INTO tasks (user_id, title) SELECT u, u || ' ' || n"
        " FROM unnest(ARRAY['visitor', 'ada', 'bob']) u, generate_series(1, 20) n",
    )

    codes = [
        await asyncio.to_thread(cli.main, ["reassign", *ids])
        for ids in (["visitor", "ada"], ["visitor", "ada"], ["ada", "ada"], ["", "ada"])
    ]

    async with client_of(url) as client:
        ada, _ = await both_adas(url, client)
        tasks = (await ada.list_tasks()).tasks
    assert codes == [0, 0, 2, 2]
    assert capsys.readouterr().out.splitlines() == ["Reassigned 20 tasks.", "Reassigned 0 tasks."]
    assert len(tasks) == 40
    # Their entity tags are new, because what they stand for has another owner.
    assert {task.version for task in tasks if task.title.startswith("visitor")} == {2}
    assert {task.version for task in tasks if task.title.startswith("ada")} == {1}
