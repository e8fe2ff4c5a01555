"""The feed: for each person the order of the numbers is the order of the commits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from persistence import task_sql, tasks
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from persistence.task_inputs import NewTask, TaskId
from tests.conftest import run_sql
from tests.feed_workload import Replica, Workload, table, viewer
from tests.neighbours.databases import new_installation

BLOCKED = "SELECT cardinality(pg_blocking_pids($1)) > 0"
ADD = "INSERT INTO tasks (user_id, title) VALUES ($1, $2) RETURNING id"


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """A database with an installation."""
    return await new_installation(postgres)


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Pool]:
    """Connections of readers."""
    pool = Pool(url, PoolSettings(6, 0, 30, 3600, True))
    yield pool
    await pool.close()


@pytest.fixture
async def connect(url: str) -> AsyncIterator[Callable]:
    """Opens connections of writers."""
    async with AsyncExitStack() as stack:

        async def connect() -> asyncpg.Connection:
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            return connection

        yield connect


# --- The order ----------------------------------------------------------------------------


async def late_commit_is_read(connect: Callable, pool: Pool) -> bool:
    """Whether a reader gets what began before, and was committed after, another write."""
    first, second, watcher = [await connect() for _ in range(3)]
    replica = Replica(pool, "ada")
    transaction = first.transaction()
    await transaction.start()
    await first.fetchval(ADD, "ada", "early")
    write = asyncio.create_task(second.fetchval(ADD, "ada", "late"))
    while not (  # noqa: ASYNC110
        write.done() or await watcher.fetchval(BLOCKED, second.get_server_pid())
    ):
        await asyncio.sleep(0.01)
    await replica.follow()
    await transaction.commit()
    await write
    return await replica.follow() == await table(watcher, "ada")


async def test_a_change_that_is_committed_late_is_not_missed(connect: Callable, pool: Pool) -> None:
    assert await late_commit_is_read(connect, pool)


async def test_numbers_without_a_lock_would_lose_it(
    url: str, connect: Callable, pool: Pool
) -> None:
    await run_sql(url, WITHOUT_LOCK)

    assert not await late_commit_is_read(connect, pool)


# Numbers of a sequence; the last one is what is visible.
WITHOUT_LOCK = """
    CREATE SEQUENCE numbers;
    INSERT INTO feeds (user_id, epoch) SELECT unnest(ARRAY['ada', 'bob', 'eve']), 1;
    CREATE FUNCTION last_number(text) RETURNS bigint LANGUAGE sql AS
        'SELECT coalesce(max(seq), 0) FROM public.tasks WHERE user_id = $1';
    CREATE OR REPLACE FUNCTION twofold_feed_number(owner text) RETURNS bigint LANGUAGE sql
        AS 'SELECT nextval(''public.numbers'')';
    CREATE OR REPLACE FUNCTION twofold_raise_floors() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN UPDATE public.rows SET floor = nextval(''public.numbers'')
            WHERE user_id IN (SELECT user_id FROM gone); RETURN NULL; END';
    ALTER TABLE feeds RENAME TO rows;
    CREATE VIEW feeds AS SELECT user_id, epoch, floor,
        greatest(floor, last_number(user_id)) AS seq FROM rows;
"""


async def test_a_write_waits_for_no_other_persons(connect: Callable) -> None:
    first, second = await connect(), await connect()
    async with first.transaction():
        await first.fetchval(ADD, "ada", "early")

        assert await second.fetchval(ADD, "bob", "late")


async def test_what_was_rolled_back_is_never_read(connect: Callable, pool: Pool) -> None:
    writer = await connect()
    replica = Replica(pool, "ada")
    transaction = writer.transaction()
    await transaction.start()
    await writer.fetchval(ADD, "ada", "never")
    await transaction.rollback()
    kept = await writer.fetchval(ADD, "ada", "kept")

    assert await replica.follow() == {kept: ("kept", 1)}


async def test_a_savepoint_that_is_rolled_back_loses_nothing(connect: Callable, pool: Pool) -> None:
    writer = await connect()
    replica = Replica(pool, "ada")
    async with writer.transaction():
        inner = writer.transaction()
        await inner.start()
        await writer.fetchval(ADD, "ada", "never")
        await inner.rollback()
        kept = await writer.fetchval(ADD, "ada", "kept")
    await replica.follow()
    async with writer.transaction():
        async with writer.transaction():
            second = await writer.fetchval(ADD, "ada", "second")
        third = await writer.fetchval(ADD, "ada", "third")

    assert await replica.follow() == {
        kept: ("kept", 1),
        second: ("second", 1),
        third: ("third", 1),
    }


# --- What is a change ---------------------------------------------------------------------


async def number_of(sql: asyncpg.Connection, user_id: str = "ada") -> int:
    return await sql.fetchval("SELECT seq FROM feeds WHERE user_id = $1", user_id) or 0


async def test_an_update_that_changes_nothing_takes_no_number(connect: Callable) -> None:
    sql = await connect()
    await sql.fetchval(ADD, "ada", "water the plants")

    await sql.execute("UPDATE tasks SET title = title, version = version")

    assert await number_of(sql) == 1
    await sql.execute("UPDATE tasks SET title = 'feed the cat'")
    assert await number_of(sql) == 2


async def test_nobody_can_write_a_number(connect: Callable) -> None:
    sql = await connect()
    await sql.execute("INSERT INTO tasks (user_id, title, seq) VALUES ('ada', 'x', 77)")
    await sql.execute("UPDATE tasks SET seq = 77")

    assert await sql.fetchval("SELECT seq FROM tasks") == await number_of(sql) == 2


async def test_one_transaction_has_one_number_and_its_tasks_are_read_in_pages(
    connect: Callable, pool: Pool
) -> None:
    sql = await connect()
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT 'ada', n::text FROM generate_series(1, 2000) n"
    )

    assert await number_of(sql) == 1
    assert await Replica(pool, "ada").follow(limit=7) == await table(sql, "ada")


async def test_a_trigger_of_the_operators_that_changes_the_row_is_numbered(
    url: str, connect: Callable, pool: Pool
) -> None:
    await run_sql(
        url,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.title = upper(NEW.title); RETURN NEW; END';"
        "CREATE TRIGGER shout BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    sql, replica = await connect(), Replica(pool, "ada")
    added = await sql.fetchval(ADD, "ada", "water the plants")
    await replica.follow()

    await sql.execute("UPDATE tasks SET title = title")

    assert await replica.follow() == {added: ("WATER THE PLANTS", 1)}


async def test_tasks_from_before_the_feed_are_read_and_so_are_their_changes(
    url: str, connect: Callable, pool: Pool
) -> None:
    sql = await connect()
    await sql.execute(
        "ALTER TABLE tasks DISABLE TRIGGER USER;"
        "INSERT INTO tasks (user_id, title) SELECT 'ada', n::text FROM generate_series(1, 20) n;"
        "ALTER TABLE tasks ENABLE TRIGGER USER"
    )
    early, late = Replica(pool, "ada"), Replica(pool, "ada")
    assert await early.follow(limit=3) == await table(sql, "ada")
    await late.step(3)

    await sql.execute("UPDATE tasks SET title = 'new' WHERE title IN ('1', '10', '20')")

    assert await late.follow(limit=3) == await table(sql, "ada")
    assert await early.follow(limit=3) == await table(sql, "ada")
    assert early.starts == late.starts == 0


# --- What is gone -------------------------------------------------------------------------

GONE = {
    "deleted": "DELETE FROM tasks WHERE title = '5'",
    "many": "DELETE FROM tasks WHERE title::int % 2 = 0",
    "given away": "UPDATE tasks SET user_id = 'bob' WHERE title::int > 3",
    "truncated": "TRUNCATE tasks",
    "of one transaction": "UPDATE tasks SET title = '77' WHERE title = '2';"
    "DELETE FROM tasks WHERE title = '5'; UPDATE tasks SET title = '78' WHERE title = '3'",
}


@pytest.mark.parametrize("statement", GONE.values(), ids=GONE)
async def test_nobody_keeps_a_task_that_is_gone(
    connect: Callable, pool: Pool, statement: str
) -> None:
    sql = await connect()
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT u, n::text"
        " FROM unnest(ARRAY['ada', 'bob', 'eve']) u, generate_series(1, 8) n"
    )
    replicas = [Replica(pool, user_id) for user_id in ("ada", "ada", "bob", "eve")]
    for replica, pages in zip(replicas, (9, 1, 9, 9), strict=True):
        for _ in range(pages):
            await replica.step(2)

    async with sql.transaction():
        await sql.execute(statement)

    for replica in replicas:
        assert await replica.follow(2) == await table(sql, replica.user_id)


async def test_who_starts_after_a_deletion_is_not_told_to_start_again(
    connect: Callable, pool: Pool
) -> None:
    sql = await connect()
    for number in range(9):
        await sql.fetchval(ADD, "ada", str(number))
    await sql.execute("DELETE FROM tasks WHERE title = '8'")
    replica = Replica(pool, "ada")

    assert await replica.follow(2) == await table(sql, "ada")
    assert replica.starts == 0


async def test_who_has_a_part_of_a_change_starts_anew_when_the_rest_is_gone(pool: Pool) -> None:
    ada, db = Replica(pool, "ada"), Database(pool, 10)
    made = [await tasks.create(db, viewer("ada"), NewTask(title="new")) for _ in range(2)]
    await ada.follow()
    # Two deletions with one number, of which the client reads the first.
    await tasks.remove_many(db, viewer("ada"), [TaskId(task.id) for task in made])
    await ada.step(limit=1)

    await tasks.empty_trash(db, viewer("ada"))

    assert await ada.follow() == {}
    assert ada.starts == 1


async def test_the_token_of_another_person_is_expired(connect: Callable, pool: Pool) -> None:
    sql = await connect()
    for user_id in ("ada", "bob"):
        await sql.fetchval(ADD, user_id, user_id)
    ada, bob = Replica(pool, "ada"), Replica(pool, "bob")
    await ada.follow()
    bob.token = ada.token

    assert await bob.follow() == await table(sql, "bob")
    assert bob.starts == 1


# --- All at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("deletes", [True, False])
async def test_random_writers_lose_nothing_and_do_not_deadlock(
    url: str, pool: Pool, deletes: bool
) -> None:
    workload = Workload(url, pool, seed=1, deletes=deletes)

    await workload.run(writes=400)

    assert workload.differences == workload.deadlocks == 0
    assert len(workload.done) == (12 if deletes else 9)


async def test_random_writers_show_numbers_without_a_lock(url: str, pool: Pool) -> None:
    await run_sql(url, WITHOUT_LOCK)
    workload = Workload(url, pool, seed=1, deletes=False)

    for _ in range(10):
        await workload.run(writes=400)
        if workload.differences:
            break

    assert workload.differences > 0


# --- Locks --------------------------------------------------------------------------------

IDS = ["1", "2", "3"]
BULK = {
    "reassign": (task_sql.REASSIGN, {"old": "ada", "new": "bob", "after": 0, "limit": 9}),
    "bulk-delete": (task_sql.REMOVE_MANY[False], {"user_id": "ada", "ids": IDS}),
}


@pytest.mark.parametrize(("statement", "values"), BULK.values(), ids=BULK)
async def test_a_statement_that_waits_for_a_task_keeps_nobody_from_adding_one(
    connect: Callable, pool: Pool, statement: Statement, values: dict[str, Any]
) -> None:
    holder, sql = await connect(), await connect()
    for title in IDS:
        await sql.fetchval(ADD, "ada", title)
    async with holder.transaction():
        await holder.execute("SELECT FROM tasks WHERE title = '3' FOR UPDATE")
        waiting = asyncio.create_task(Database(pool, 10).write(statement, **values))
        while not await sql.fetchval(WAITING):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        await sql.execute("SET lock_timeout = '1s'")
        assert await sql.fetchval(ADD, "ada", "4")
    await waiting


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"


async def test_tasks_that_are_exchanged_between_two_people_do_not_deadlock(
    connect: Callable, pool: Pool
) -> None:
    sql = await connect()
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT u, n::text"
        " FROM unnest(ARRAY['ada', 'bob']) u, generate_series(1, 20) n"
    )
    give = "UPDATE tasks SET user_id = $2 WHERE user_id = $1 AND title = $3"
    writers = [await connect() for _ in range(2)]

    async def exchange(writer: asyncpg.Connection, *people: str) -> None:
        for number in range(20):
            await writer.execute(give, *people, str(number))

    await asyncio.gather(exchange(writers[0], "ada", "bob"), exchange(writers[1], "bob", "ada"))


# --- Rights and schemas -------------------------------------------------------------------


async def test_a_role_of_the_release_before_goes_on_writing(
    url: str, postgres: Postgres, pool: Pool
) -> None:
    role = f"servant_{secrets.token_hex(4)}"
    await run_sql(
        url,
        f"CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO {role};",
    )
    sql = await asyncpg.connect(url)
    await sql.execute(f"SET ROLE {role}")

    kept = await sql.fetchval(ADD, "ada", "kept")
    await sql.execute("UPDATE tasks SET title = 'changed'")
    gone = await sql.fetchval(ADD, "ada", "gone")
    await sql.execute("DELETE FROM tasks WHERE id = $1", gone)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql.execute("UPDATE feeds SET seq = 0")
    await sql.execute("RESET ROLE")
    await sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await sql.close()
    assert await Replica(pool, "ada").follow() == {kept: ("changed", 1)}


async def test_a_temporary_table_of_a_writer_is_not_taken_for_the_feeds(
    connect: Callable, pool: Pool
) -> None:
    sql = await connect()
    await sql.execute("CREATE TEMP TABLE feeds AS TABLE public.feeds")

    added = await sql.fetchval(ADD, "ada", "water the plants")

    assert await Replica(pool, "ada").follow() == {added: ("water the plants", 1)}


async def test_a_feed_in_a_schema_of_its_own_is_found_under_any_search_path(
    postgres: Postgres,
) -> None:
    url = await new_installation(postgres, "ours")
    pool = Pool(url, PoolSettings(2, 0, 30, 3600, True))
    sql = await asyncpg.connect(url)
    await sql.execute("SET search_path = pg_catalog")

    added = await sql.fetchval(ADD.replace("tasks", "ours.tasks"), "ada", "water the plants")

    assert await Replica(pool, "ada", "ours").follow() == {added: ("water the plants", 1)}
    await sql.close()
    await pool.close()
