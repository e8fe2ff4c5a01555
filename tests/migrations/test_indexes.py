"""Each list is read in order from its index, and indexes are built while the service writes."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence import task_lists, task_sql
from persistence.migrations import (
    upgrade,
)
from persistence.sql import Statement
from persistence.task_lists import Kind, Shape
from tests.conftest import GIVE_UP
from tests.drills.service import connected
from tests.migrations.running import (
    EVERY_INDEX,
    alembic,
    indexes,
    migrate,
)


def list_of(key: str) -> Statement:
    """The statement of a page in this order, the largest key first."""
    return task_lists.list_statement(Shape(Kind.ALL, key, descending=True, at_position=False))


OF_THE_RELEASE_BEFORE = Statement(
    "SELECT * FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2",
    ("user_id", "limit"),
)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (list_of("created"), "ix_tasks_living"),
        (list_of("updated"), "ix_tasks_living_updated"),
        (list_of("priority"), "ix_tasks_living_priority"),
        (list_of("due"), "ix_tasks_living_due"),
        (task_sql.TRASH[False], "ix_tasks_trash"),
        # The release before, which does not know the trash.
        (OF_THE_RELEASE_BEFORE, "ix_tasks_user_id_created_at_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_list_is_read_in_order_from_its_index(
    sql: asyncpg.Connection, url: str, statement: Statement, index: str
) -> None:
    await asyncio.to_thread(upgrade, url)
    await sql.execute(
        # In a table without rows a sort costs nothing.
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
    )

    plan = await sql.fetch(
        f"EXPLAIN {statement.sql}",
        *({"user_id": "ada", "limit": 5, "known": -1}[name] for name in statement.parameters),
    )

    described = "\n".join(record[0] for record in plan)
    assert f"Index Scan Backward using {index} on" in described
    assert "Sort" not in described


_WAITS = """
SELECT EXISTS (
    SELECT FROM pg_stat_progress_create_index
    WHERE datname = current_database() AND phase = 'waiting for writers before build'
)
"""
"""Whether an index is waiting for a transaction that began before it."""


async def test_an_index_that_is_missing_or_was_interrupted_is_built_by_the_next_upgrade(
    url: str, sql: asyncpg.Connection
) -> None:
    await migrate(url)
    await sql.execute(
        "DROP INDEX ix_tasks_trash;"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_tasks_living'::regclass"
    )

    await migrate(url)

    assert await indexes(sql) == EVERY_INDEX


async def test_tasks_are_written_while_an_index_is_built(url: str, sql: asyncpg.Connection) -> None:
    await migrate(url)
    await sql.execute("DROP INDEX ix_tasks_living")
    async with connected(url) as other, connected(url) as look:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("INSERT INTO tasks (user_id, title) VALUES ('ada', 'before')")
        building = alembic(url, "upgrade", "head")
        async with asyncio.timeout(GIVE_UP):
            while not await look.fetchval(_WAITS):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

        await sql.execute("INSERT INTO tasks (user_id, title) VALUES ('bob', 'meanwhile')")
        assert (await indexes(sql))["ix_tasks_living"] is False
        await migrate(url)  # Leaves the index to the one that builds it.

        await transaction.commit()
        _, noise = await asyncio.to_thread(building.communicate)
    assert building.returncode == 0, noise
    assert await indexes(sql) == EVERY_INDEX
