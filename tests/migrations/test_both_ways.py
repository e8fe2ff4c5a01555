"""Migrations of our own tables, on real databases: both ways, and at once."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.conftest import until_waiting
from tests.migrations.running import (
    EVERY_INDEX,
    alembic,
    indexes,
    migrate,
    migrate_back,
    tables,
)


async def test_what_goes_up_comes_down_and_goes_up_again(url: str, sql: asyncpg.Connection) -> None:
    await migrate(url)
    first = await sql.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks' ORDER BY 1")
    await migrate_back(url)
    assert await tables(sql) == {"twofold_alembic_version"}

    await migrate(url)

    assert await tables(sql) == {"twofold_alembic_version", "tasks", "idempotency_keys", "feeds"}
    again = await sql.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks' ORDER BY 1")
    assert again == first


async def test_migrating_what_is_current_changes_nothing(url: str, sql: asyncpg.Connection) -> None:
    await migrate(url)
    await sql.execute("INSERT INTO tasks (user_id, title) VALUES ('ada', 'water the plants')")
    before = await sql.fetch("SELECT xmin, * FROM tasks")

    await migrate(url)

    assert await sql.fetch("SELECT xmin, * FROM tasks") == before


async def test_migrating_back_empties_the_trash_whose_tasks_would_live_again(
    url: str, sql: asyncpg.Connection
) -> None:
    await migrate(url)
    await sql.execute(
        "INSERT INTO tasks (user_id, title, deleted_at)"
        " VALUES ('ada', 'kept', NULL), ('ada', 'deleted', now())"
    )

    await migrate_back(url, "2026_11_26_idempotency_keys")
    await migrate(url)

    assert [row["title"] for row in await sql.fetch("SELECT title FROM tasks")] == ["kept"]
    assert await indexes(sql) == EVERY_INDEX


async def test_three_instances_may_migrate_at_once_and_without_an_alembic_ini(
    url: str, sql: asyncpg.Connection
) -> None:
    # Held back until all three are about to connect, so that they arrive at once.
    await sql.execute("SELECT pg_advisory_lock(7021999021)")
    processes = [alembic(url, "upgrade", "head") for _ in range(3)]
    await until_waiting(sql, len(processes))

    await sql.execute("SELECT pg_advisory_unlock(7021999021)")
    outcomes = [await asyncio.to_thread(process.communicate) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], outcomes
    assert await tables(sql) == {"twofold_alembic_version", "tasks", "idempotency_keys", "feeds"}
    assert len(await sql.fetch("SELECT * FROM twofold_alembic_version")) == 1
    assert await indexes(sql) == EVERY_INDEX
