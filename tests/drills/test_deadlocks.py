"""Random writes of the same tasks at the same time: none waits for another in a circle."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from persistence import tasks
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.errors import NotFound
from persistence.idempotency import IdempotentWrite
from persistence.migrations import upgrade
from persistence.pool import Pool, PoolSettings
from persistence.sweep import sweep
from persistence.task_inputs import NewTask, TaskChanges, TaskId
from persistence.viewer import Viewer
from tests.conftest import new_database

CONCURRENT = 16
TASKS = 120

OWNERS = ("ada", "bob")
"""Two users who give each other all their tasks, while both write."""


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """A database of its own, whose deadlocks are counted."""
    url = await new_database(postgres, f"deadlocks_{secrets.token_hex(6)}")
    await asyncio.to_thread(upgrade, url)
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Pool]:
    """Connections to it."""
    pool = Pool(url, PoolSettings(CONCURRENT, 0, 30, 3600, pre_ping=False))
    yield pool
    await pool.close()


def _viewer(user_id: str) -> Viewer:
    return Viewer(user_id, datetime.max.replace(tzinfo=UTC))


async def _write(db: Database, dice: random.Random, ids: list[int], kind: str) -> None:
    """One write, of up to all tasks, in any order."""
    viewer = _viewer(dice.choice(OWNERS))
    some = dice.sample(ids, dice.randint(1, len(ids)))
    task_id = TaskId(some[0])
    changes = TaskChanges(title=f"{dice.random()}")
    idempotency = IdempotentWrite(secrets.token_hex(8), "same", 1) if dice.random() < 0.3 else None
    match kind:
        case "create many":
            new = [NewTask(title="new")] * dice.randint(1, 10)
            await tasks.create_many(db, viewer, new, idempotency)
        case "change many":
            await tasks.change_many(db, viewer, some, changes, idempotency)
        case "delete many":
            await tasks.remove_many(db, viewer, some, idempotency)
        case "change":
            await tasks.change(db, viewer, task_id, changes, idempotency=idempotency)
        case "delete":
            await tasks.remove(db, viewer, task_id, idempotency=idempotency)
        case "restore":
            await tasks.restore(db, viewer, task_id, idempotency)
        case "empty":
            await tasks.empty_trash(db, viewer, idempotency)
        case "reassign":
            old, new_owner = dice.sample(OWNERS, 2)
            await tasks.reassign(db, old, new_owner, 0, 1000)
        case "sweep":
            await sweep(db, trash_days=0)


KINDS = {
    "create many": 8,
    "change many": 30,
    "delete many": 8,
    "change": 10,
    "delete": 10,
    "restore": 30,
    "empty": 1,
    "reassign": 3,
    "sweep": 1,
}
"""How often each kind of write is made, relative to the others."""


@pytest.mark.parametrize(
    "writes", [400, pytest.param(10_000, marks=[pytest.mark.drill, pytest.mark.timeout(600)])]
)
async def test_random_writes_at_the_same_time_do_not_deadlock(
    url: str, pool: Pool, writes: int
) -> None:
    dice = random.Random(writes)
    kinds = iter(dice.choices([*KINDS], [*KINDS.values()], k=writes))
    outcomes: Counter[str] = Counter()
    sql, looking = await asyncpg.connect(url), asyncio.Lock()

    async def find_ids() -> list[int]:
        async with looking:
            records = await sql.fetch("SELECT id FROM tasks ORDER BY random() LIMIT $1", TASKS)
        if not records:
            db, new = Database(pool, 60), [NewTask(title="new")] * 100
            return [task.id for task in await tasks.create_many(db, _viewer("ada"), new)]
        return [row["id"] for row in records]

    async def work() -> None:
        for kind in kinds:
            ids = await find_ids()
            try:
                await _write(Database(pool, 60), dice, ids, kind)
                outcomes[kind] += 1
            except NotFound:
                outcomes["not found"] += 1

    await asyncio.gather(*(work() for _ in range(CONCURRENT)))

    # PostgreSQL would have ended one of two writes that wait for each other, with an error.
    assert outcomes.total() == writes
    assert all(outcomes[kind] for kind in KINDS), outcomes
    await sql.close()
