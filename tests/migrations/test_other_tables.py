"""Migrations beside the auth server's tables, and tables that look like ours."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest

from alembic import command
from persistence.database import Database
from persistence.migrations import CannotMigrate, config, stamp, upgrade
from persistence.schema_check import find_schema_problem
from tests.migrations.running import (
    COLUMNS,
    NEIGHBOURS,
    ROWS,
    migrate,
    migrate_back,
    tables,
)
from tests.people import SESSION_TABLES


async def test_the_auth_servers_tables_are_neither_compared_nor_touched(
    url: str, sql: asyncpg.Connection
) -> None:
    await sql.execute(SESSION_TABLES + NEIGHBOURS)
    before = await sql.fetch(COLUMNS), await sql.fetch(ROWS)

    await migrate(url)
    await asyncio.to_thread(command.check, config(url))
    await migrate_back(url)
    await migrate(url)

    assert (await sql.fetch(COLUMNS), await sql.fetch(ROWS)) == before


FOREIGN = [
    "CREATE TABLE tasks (id serial PRIMARY KEY, name text); INSERT INTO tasks VALUES (7, 'theirs')",
    "CREATE TABLE theirs (id int, name text); INSERT INTO theirs VALUES (7, 'theirs');"
    " CREATE VIEW tasks AS SELECT * FROM theirs",
]


@pytest.mark.parametrize("theirs", FOREIGN, ids=["table", "view"])
async def test_a_table_of_tasks_that_is_not_ours_is_refused_and_left_alone(
    url: str, sql: asyncpg.Connection, theirs: str
) -> None:
    await sql.execute(theirs)

    with pytest.raises(CannotMigrate) as refusal:
        await asyncio.to_thread(upgrade, url)

    assert str(refusal.value).startswith("The database has a table tasks already,")
    assert "ALTER TABLE tasks RENAME TO tasks_before" in str(refusal.value)
    assert [tuple(row) for row in await sql.fetch("SELECT id, name FROM tasks")] == [(7, "theirs")]
    assert "twofold_alembic_version" not in await tables(sql)


async def test_a_table_of_keys_that_is_not_ours_is_refused_and_left_alone(
    url: str, sql: asyncpg.Connection
) -> None:
    await sql.execute("CREATE TABLE idempotency_keys (theirs text)")

    with pytest.raises(CannotMigrate, match="has a table idempotency_keys already"):
        await asyncio.to_thread(upgrade, url)

    assert await tables(sql) == {"idempotency_keys"}
    await asyncio.to_thread(upgrade, url, "ours")
    assert await sql.fetch("SELECT theirs FROM idempotency_keys") == []


async def test_a_table_of_tasks_is_adopted_as_the_refusal_says(
    url: str, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "CREATE TABLE tasks (id serial PRIMARY KEY, user_id uuid, title text, done boolean);"
        "INSERT INTO tasks VALUES (7, gen_random_uuid(), 'water the plants', true)"
    )

    await sql.execute("ALTER TABLE tasks RENAME TO tasks_before")
    await migrate(url)
    await sql.execute(
        "INSERT INTO tasks (user_id, title, completed)"
        " SELECT user_id, title, done FROM tasks_before"
    )

    assert await sql.fetchval("SELECT title FROM tasks WHERE completed") == "water the plants"


async def test_our_own_table_restored_without_its_version_is_stamped_as_the_refusal_says(
    url: str, sql: asyncpg.Connection, db: Database
) -> None:
    await migrate(url)
    await sql.execute("DROP TABLE twofold_alembic_version")

    with pytest.raises(CannotMigrate) as refusal:
        await asyncio.to_thread(upgrade, url)
    revision = re.search(r"twofold stamp (\S+), or an earlier one", str(refusal.value))
    assert revision
    await asyncio.to_thread(stamp, url, revision[1])

    await migrate(url)
    assert await find_schema_problem(db, "pg_class") is None


async def test_a_stamp_replaces_a_revision_that_this_build_does_not_know(
    url: str, sql: asyncpg.Connection, db: Database
) -> None:
    await migrate(url)
    newest = await sql.fetchval("SELECT version_num FROM twofold_alembic_version")
    await sql.execute("UPDATE twofold_alembic_version SET version_num = '2999_of_a_later_release'")

    stamped = await asyncio.to_thread(stamp, url, "head")

    assert stamped == newest
    assert await sql.fetchval("SELECT version_num FROM twofold_alembic_version") == newest
    assert await find_schema_problem(db, "pg_class") is None


async def test_an_unknown_revision_is_not_stamped(url: str, sql: asyncpg.Connection) -> None:
    await migrate(url)
    before = await sql.fetchval("SELECT version_num FROM twofold_alembic_version")

    with pytest.raises(CannotMigrate, match=r"no revision 'base'. There are: head, 2026_"):
        await asyncio.to_thread(stamp, url, "base")

    assert await sql.fetchval("SELECT version_num FROM twofold_alembic_version") == before
