"""Writes with an idempotency key, beneath the protocols: on PostgreSQL, through ``Database``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import pytest

from persistence import tasks
from persistence.database import Database
from persistence.errors import InvalidInput, NotFound, VersionConflict
from persistence.idempotency import (
    IdempotentWrite,
    KeyInFlight,
    KeyMismatch,
    fingerprint,
    parse_key,
)
from persistence.idempotency_sql import SWEPT
from persistence.pool import Pool, PoolSettings
from persistence.task_inputs import NewTask, TaskChanges, TaskId
from persistence.viewer import Viewer
from tests.conftest import pgbouncer
from tests.control import GIVE_UP
from tests.trips import TripCounter

EXPIRE = "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """Access to the database, with ten connections."""
    pool = Pool(pgbouncer.through(database_url), PoolSettings(10, 10, 5, 3600, pre_ping=False))
    yield Database(pool, 30)
    await pool.close()


@pytest.fixture
def ada() -> Viewer:
    """A viewer."""
    return viewer("ada")


def viewer(name: str) -> Viewer:
    return Viewer(name, datetime.now(UTC))


def keyed(key: str = "k", request: str = "r", hours: float = 24) -> IdempotentWrite:
    return IdempotentWrite(key, fingerprint(request), hours)


async def until_waiting(sql: asyncpg.Connection) -> None:
    """Wait until a statement waits for a row that another transaction holds."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)"
    )
    async with asyncio.timeout(GIVE_UP):
        while not await sql.fetchval(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


NEW = NewTask.model_validate({"title": "water the plants"})
DONE = TaskChanges.model_validate({"completed": True})


async def create(
    db: Database, ada: Viewer, idempotency: IdempotentWrite | None = None
) -> tasks.Task:
    return await tasks.create(db, ada, NEW, idempotency)


# --- The same key again -------------------------------------------------------------------


async def test_a_repeat_gets_the_first_outcome_and_does_nothing(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    first, again = keyed(), keyed()
    created = await create(db, ada, first)
    await tasks.change(db, ada, TaskId(created.id), DONE)

    repeated = await create(db, ada, again)

    assert repeated == created
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 1


async def test_every_kind_of_write_is_done_once(db: Database, ada: Viewer) -> None:
    task, other = await create(db, ada), await create(db, ada)
    id_ = TaskId(task.id)

    changed = [await tasks.change(db, ada, id_, DONE, None, keyed("change")) for _ in range(2)]
    removed = [await tasks.remove(db, ada, id_, [2], keyed("remove")) for _ in range(2)]
    several = [
        await tasks.remove_many(db, ada, [other.id, 2**70, task.id], keyed("many"))
        for _ in range(2)
    ]

    assert changed[0] == changed[1] == removed[0] == removed[1]
    assert changed[0].version == 2
    assert several == [tasks.Deleted([other.id], [2**70, task.id])] * 2


async def test_what_was_not_found_stays_so(db: Database, ada: Viewer) -> None:
    task = await create(db, ada)
    await tasks.remove(db, ada, TaskId(task.id))
    for is_replayed in (False, True):
        write = keyed()
        with pytest.raises(NotFound):
            await tasks.change(db, ada, TaskId(task.id), DONE, None, write)
        assert write.is_replayed is is_replayed


async def test_a_conflict_stays_one_at_its_version(db: Database, ada: Viewer) -> None:
    task = await create(db, ada)
    id_ = TaskId(task.id)
    with pytest.raises(VersionConflict, match="version 1"):
        await tasks.change(db, ada, id_, DONE, [2], keyed())
    await tasks.change(db, ada, id_, DONE)

    with pytest.raises(VersionConflict, match="version 1"):
        await tasks.change(db, ada, id_, DONE, [2], keyed())


async def test_another_request_is_a_mismatch(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    await create(db, ada, keyed())

    with pytest.raises(KeyMismatch):
        await create(db, ada, keyed(request="another"))

    assert await sql.fetchval("SELECT count(*) FROM tasks") == 1


async def test_each_person_has_keys_of_their_own(db: Database, ada: Viewer) -> None:
    first, others = keyed(), keyed(request="another")
    await create(db, ada, first)

    created = await create(db, viewer("bob"), others)

    assert created.user_id == "bob"
    assert not others.is_replayed


async def test_times_are_the_same_in_any_time_zone(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    created = await create(db, ada, keyed())
    assert created.created_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    await sql.execute(
        "UPDATE idempotency_keys SET outcome = replace(outcome::text, '+00:00', '+05:30')::json"
    )

    repeated = await create(db, ada, keyed())

    assert repeated.created_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]


# --- At once ------------------------------------------------------------------------------


async def test_of_many_at_once_one_is_done_and_all_others_know(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    for key in "abcdefghij":
        results = await asyncio.gather(
            *(create(db, ada, keyed(key)) for _ in range(4)), return_exceptions=True
        )
        created = {result.id for result in results if isinstance(result, tasks.Task)}
        assert len(created) == 1
        others = [result for result in results if not isinstance(result, tasks.Task)]
        assert all(isinstance(result, KeyInFlight) for result in others), others

    assert await sql.fetchval("SELECT count(*) FROM tasks") == 10


async def test_while_the_first_runs_a_repeat_is_in_flight_and_does_not_wait(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    task = await create(db, ada)

    async def change() -> tasks.Task:
        return await tasks.change(db, ada, TaskId(task.id), DONE, None, keyed())

    async with sql.transaction():
        await sql.execute("SELECT FROM tasks FOR UPDATE")
        first = asyncio.create_task(change())
        await until_waiting(sql)
        with pytest.raises(KeyInFlight):
            await change()

    assert (await first).version == 2
    assert (await change()).version == 2


async def test_a_run_that_is_committed_behind_a_snapshot_is_found(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    """The lock is free and no record is to be seen; the primary key tells that there is one.

    It has the members that the release before knows.
    """
    task = await create(db, ada)
    write = keyed()
    async with sql.transaction():
        # What another run, which began a moment ago, does.
        await sql.execute("SELECT FROM tasks FOR UPDATE")
        waiting = asyncio.create_task(tasks.change(db, ada, TaskId(task.id), DONE, None, write))
        await until_waiting(sql)
        await sql.execute("UPDATE tasks SET completed = true, version = 2")
        await sql.execute(
            "INSERT INTO idempotency_keys SELECT 'ada', 'k', $1, json_agg(row),"
            " now() + interval '1 h' FROM (SELECT true AS done, id, user_id, title, description,"
            " completed, version, created_at, updated_at FROM tasks) row",
            write.fingerprint,
        )

    changed = await waiting

    assert (changed.version, write.is_replayed) == (2, True)
    assert await sql.fetchval("SELECT version FROM tasks") == 2


async def test_a_first_attempt_that_goes_on_without_its_connection_is_waited_for(
    trips: TripCounter, ada: Viewer, sql: asyncpg.Connection
) -> None:
    pool = Pool(trips.url, PoolSettings(1, 1, 5, 3600, pre_ping=False))
    db, write = Database(pool, 30), keyed()
    task = await create(db, ada)
    async with sql.transaction():
        await sql.execute("SELECT FROM tasks FOR UPDATE")
        changing = asyncio.create_task(tasks.change(db, ada, TaskId(task.id), DONE, None, write))
        await until_waiting(sql)
        await trips.drop()
        before = trips.count
        async with asyncio.timeout(GIVE_UP):
            # Until the second attempt has found that the first one still holds the lock.
            while not (db.losses and trips.count > before + 3):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not changing.done()

    changed = await changing
    await pool.close()

    assert (changed.version, write.is_replayed) == (2, True)
    assert await sql.fetchval("SELECT version FROM tasks") == 2


# --- For so long --------------------------------------------------------------------------


async def test_an_expired_key_is_as_if_never_used(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    await create(db, ada, keyed())
    await sql.execute(EXPIRE)
    write = keyed(request="another")

    await create(db, ada, write)

    assert not write.is_replayed
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 2
    assert await sql.fetchval("SELECT fingerprint FROM idempotency_keys") == write.fingerprint


async def test_a_key_lives_for_its_hours(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    await create(db, ada, keyed(hours=2.5))

    lasting = (
        "SELECT expires_at - now() BETWEEN '2 h 29 min' AND '2 h 30 min' FROM idempotency_keys"
    )
    assert await sql.fetchval(lasting)


async def test_expired_keys_are_swept_a_few_at_a_time(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO idempotency_keys SELECT 'bob', n, '', '[]', now() - interval '1 h'"
        " FROM generate_series(1, 10) n"
    )

    left = []
    for key in "abc":
        await create(db, ada, keyed(key))
        left.append(await sql.fetchval("SELECT count(*) FROM idempotency_keys WHERE key ~ '[0-9]'"))

    assert left == [10 - SWEPT, 10 - 2 * SWEPT, 0]


async def test_a_sweep_neither_waits_nor_makes_anybody_wait(
    db: Database, ada: Viewer, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO idempotency_keys VALUES ('bob', 'k', '', '[]', now() - interval '1 h')"
    )
    async with sql.transaction():
        await sql.execute("SELECT FROM idempotency_keys FOR UPDATE")
        await asyncio.wait_for(create(db, ada, keyed()), 5)
        assert await sql.fetchval("SELECT count(*) FROM idempotency_keys") == 2


# --- Keys and fingerprints ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("k", "k"), ('"k"', "k"), ('""k""', '"k"'), ('"', '"'), ('"k', '"k'), ("a b", "a b"),
        ("x" * 255, "x" * 255), (f'"{"x" * 255}"', "x" * 255), ("~!", "~!"),
    ],
)  # fmt: skip
def test_a_key_is_printable_and_without_its_quotes(text: str, key: str) -> None:
    assert parse_key(text, "Idempotency-Key") == key


@pytest.mark.parametrize("text", ["", '""', "x" * 256, "é", "a\n", "a\tb", "\x7f", "a\0"])
def test_what_is_no_key_is_invalid(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_key(text, "Idempotency-Key")

    [error] = refusal.value.errors
    assert (error.field, error.code) == ("Idempotency-Key", "idempotency_key")


def test_a_fingerprint_ignores_the_order_of_members_and_nothing_else() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    parts = [("a", {"x": 1}), ("b", {"x": 1}), ("a", {"x": None}), ("a", {}), ("a", {"x": "1"})]
    assert len({fingerprint(*each) for each in parts}) == len(parts)


# --- Round trips --------------------------------------------------------------------------


async def test_a_keyed_write_takes_one_trip_and_so_does_a_repeat(
    trips: TripCounter, ada: Viewer
) -> None:
    pool = Pool(trips.url, PoolSettings(1, 0, 5, 3600, pre_ping=False))
    db = Database(pool, 30)
    await create(db, ada, keyed("warm"))

    counts: list[int] = []
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: create(db, ada, keyed("a")),
        lambda: create(db, ada, keyed("a")),
    ]
    for step in steps:
        before = trips.count
        await step()
        counts.append(trips.count - before)
    await pool.close()

    assert counts == [1, 1]
