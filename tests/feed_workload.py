"""Random writers of all kinds, and readers that follow the feeds meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg

from persistence import feeds, tasks
from persistence.database import Database
from persistence.errors import NotFound, Unavailable
from persistence.pool import Pool
from persistence.sweep import sweep
from persistence.sync_tokens import SyncToken, SyncTokenExpired
from persistence.task_inputs import NewTask, TaskChanges, TaskId
from persistence.viewer import Viewer

PEOPLE = ("ada", "bob", "eve")


def viewer(user_id: str) -> Viewer:
    """A person whose session does not end."""
    return Viewer(user_id, datetime.max.replace(tzinfo=UTC))


class Replica:
    """What a client has that only follows a person's changes.

    Attributes:
        tasks: the title and the version of each task, by its id.
        starts: how often it had to start anew.
        steps_back: how often a task came with an earlier version than before.
    """

    def __init__(self, pool: Pool, user_id: str, schema: str | None = None) -> None:
        self.user_id = user_id
        self.tasks: dict[int, tuple[str, int]] = {}
        self.token: SyncToken | None = None
        self.starts = self.steps_back = 0
        self._viewer = viewer(user_id)
        self._pool, self._schema = pool, schema

    async def step(self, limit: int = 100) -> bool:
        """Read one page; return whether there is more."""
        db = Database(self._pool, 10, schema=self._schema)
        try:
            page = await feeds.changes(db, self._viewer, self.token, limit)
        except SyncTokenExpired:
            self.token, self.tasks = None, {}
            self.starts += 1
            return True
        for task in page.tasks:
            _, before = self.tasks.get(task.id, ("", 0))
            self.steps_back += task.version < before
            self.tasks[task.id] = (task.title, task.version)
            if task.deleted_at:
                del self.tasks[task.id]
        self.token = page.token
        return page.has_more

    async def follow(self, limit: int = 100) -> dict[int, tuple[str, int]]:
        """Read until there is no more; return the tasks."""
        while await self.step(limit):
            pass
        return self.tasks


async def table(sql: asyncpg.Connection, user_id: str) -> dict[int, tuple[str, int]]:
    """What a replica should be."""
    rows = await sql.fetch(
        "SELECT id, title, version FROM tasks WHERE user_id = $1 AND deleted_at IS NULL", user_id
    )
    return {row[0]: (row[1], row[2]) for row in rows}


class Workload:
    """Writers that do random things at once, and readers that follow.

    Args:
        deletes: whether tasks are deleted for good and given away, so that readers start anew.

    Attributes:
        done: how many writes of each kind were done.
        deadlocks: how many failed because of a deadlock.
        differences: how many replicas were not the table in the end, or went back in time.
    """

    def __init__(self, url: str, pool: Pool, seed: int, *, deletes: bool = True) -> None:
        self.done: Counter[str] = Counter()
        self.deadlocks = 0
        self.differences = 0
        self._url, self._pool = url, pool
        self._random = random.Random(seed)
        self._kinds = [self._create, self._change, self._change, self._change]
        self._kinds += [self._hold, self._in_sql, self._roll_back, self._change_many]
        self._kinds += [self._remove, self._remove_many, self._restore]
        if deletes:
            self._kinds += [self._give, self._empty, self._sweep]

    async def run(self, writes: int, writers: int = 6) -> None:
        """Do so many writes, and compare."""
        sql = await asyncpg.connect(self._url)
        self._left = writes
        over = asyncio.Event()
        replicas = [Replica(self._pool, user_id) for user_id in PEOPLE for _ in range(2)]
        readers = [asyncio.create_task(self._read(replica, over)) for replica in replicas]
        await asyncio.gather(*(self._write() for _ in range(writers)))
        over.set()
        await asyncio.gather(*readers)
        for replica in replicas:
            expected = await table(sql, replica.user_id)
            is_equal = await replica.follow() == expected
            self.differences += not is_equal or replica.steps_back > 0
        await sql.close()

    async def _read(self, replica: Replica, over: asyncio.Event) -> None:
        while not over.is_set():
            await replica.step(self._random.choice([1, 7, 1000]))

    async def _write(self) -> None:
        sql = await asyncpg.connect(self._url)
        while self._left > 0:
            self._left -= 1
            kind = self._random.choice(self._kinds)
            try:
                await kind(sql, Database(self._pool, 30), self._random.choice(PEOPLE))
                self.done[kind.__name__] += 1
            except (asyncpg.DeadlockDetectedError, Unavailable) as error:
                if "deadlock" not in str(error):
                    raise
                self.deadlocks += 1
        await sql.close()

    async def _ids(self, sql: asyncpg.Connection, owner: str, count: int) -> list[TaskId]:
        query = "SELECT id FROM tasks WHERE user_id = $1 ORDER BY random() LIMIT $2"
        return [TaskId(row[0]) for row in await sql.fetch(query, owner, count)]

    async def _create(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        await tasks.create(db, viewer(owner), NewTask(title="new"))

    async def _change(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        changes = TaskChanges(title=str(self._random.random()))
        for task_id in await self._ids(sql, owner, 1):
            with suppress(NotFound):
                await tasks.change(db, viewer(owner), task_id, changes)

    async def _change_many(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        changes = TaskChanges(title=str(self._random.random()))
        await tasks.change_many(db, viewer(owner), await self._ids(sql, owner, 3), changes)

    async def _remove(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        for task_id in await self._ids(sql, owner, 1):
            with suppress(NotFound):
                await tasks.remove(db, viewer(owner), task_id)

    async def _remove_many(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        await tasks.remove_many(db, viewer(owner), await self._ids(sql, owner, 3))

    async def _restore(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        for task_id in await self._ids(sql, owner, 3):
            with suppress(NotFound):
                await tasks.restore(db, viewer(owner), task_id)

    async def _empty(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        await tasks.empty_trash(db, viewer(owner))

    async def _sweep(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        await sweep(db, 0)

    async def _give(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        new = self._random.choice([person for person in PEOPLE if person != owner])
        await tasks.reassign(db, owner, new, after=0, limit=3)

    async def _hold(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        async with sql.transaction():
            for _ in range(2):
                await sql.execute("INSERT INTO tasks (user_id, title) VALUES ($1, 'held')", owner)
                await asyncio.sleep(self._random.random() / 100)

    async def _in_sql(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        await sql.execute(
            "WITH locked AS (SELECT id FROM tasks WHERE user_id = $1 ORDER BY id FOR UPDATE)"
            " UPDATE tasks SET version = version + 1"
            " WHERE id = ANY(CAST((SELECT array_agg(id) FROM locked) AS bigint[]))",
            owner,
        )

    async def _roll_back(self, sql: asyncpg.Connection, db: Database, owner: str) -> None:
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute("INSERT INTO tasks (user_id, title) VALUES ($1, 'never')", owner)
        await asyncio.sleep(self._random.random() / 100)
        await transaction.rollback()
