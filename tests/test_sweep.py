"""What is long in the trash is removed: by the service in the background, and by the command."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from api import cli
from api.app import create_app
from api.server import sweeper
from persistence import sweep as sweeps
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.pool import Pool, PoolSettings
from persistence.sweep import BATCH, SWEEP_LOCK, Swept, sweep
from tests.conftest import GIVE_UP, new_database, run_sql, settings_of_tests, until_waiting
from tests.people import SESSION_TABLES

NOTHING = Swept(is_alone=True, tasks=0, keys=0)


@pytest.fixture(scope="module")
async def url(postgres: Postgres) -> str:
    """A database of its own, whose clock no other test of this file shares."""
    url = await new_database(postgres, f"sweep_{secrets.token_hex(6)}")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    return url


@pytest.fixture
async def sql(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A look at it."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.execute("DELETE FROM tasks; DELETE FROM idempotency_keys")
    await connection.close()


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """The service's way to it."""
    pool = Pool(url, PoolSettings(2, 0, 30, 3600, True))
    yield Database(pool, 10)
    await pool.close()


async def add_tasks(sql: asyncpg.Connection, days: float | None, count: int = 1) -> None:
    """Add tasks that were deleted so many days ago; ``None``: that live."""
    await sql.execute(
        "INSERT INTO tasks (user_id, title, created_at, deleted_at) SELECT 'user ' || n,"
        " coalesce($1::float8::text, 'living'), now() - interval '1 year',"
        " now() - $1::float8 * interval '1 day' FROM generate_series(1, $2) n",
        days,
        count,
    )


async def add_keys(sql: asyncpg.Connection, hours: float, count: int = 1) -> None:
    """Add keys that expire in so many hours."""
    await sql.execute(
        "INSERT INTO idempotency_keys SELECT 'ada', $1::float8 || ' ' || n, '', '[]',"
        " now() + $1::float8 * interval '1 hour' FROM generate_series(1, $2) n",
        hours,
        count,
    )


async def titles(sql: asyncpg.Connection) -> list[str]:
    return [row["title"] for row in await sql.fetch("SELECT title FROM tasks ORDER BY id")]


# --- One sweep ----------------------------------------------------------------------------


async def test_only_what_was_deleted_long_ago_is_removed(
    db: Database, sql: asyncpg.Connection
) -> None:
    for days in (None, 0, 29.99, 30.01, 400):
        await add_tasks(sql, days)

    assert await sweep(db, 30) == NOTHING._replace(tasks=2)

    assert await titles(sql) == ["living", "0", "29.99"]
    assert await sweep(db, 30) == NOTHING


async def test_only_keys_that_are_expired_are_removed(
    db: Database, sql: asyncpg.Connection
) -> None:
    await add_keys(sql, hours=1)
    await add_keys(sql, hours=-1, count=3)

    assert await sweep(db, 30) == NOTHING._replace(keys=3)
    assert await sql.fetchval("SELECT key FROM idempotency_keys") == "1 1"


async def test_a_sweep_removes_a_batch_the_oldest_first(
    db: Database, sql: asyncpg.Connection
) -> None:
    await add_tasks(sql, 31, 2)
    await add_tasks(sql, 40, BATCH)
    await add_keys(sql, -1, BATCH + 1)

    first, second = await sweep(db, 30), await sweep(db, 30)

    assert first == NOTHING._replace(tasks=BATCH, keys=BATCH)
    assert (first.may_leave_more, second.may_leave_more) == (True, False)
    assert second == NOTHING._replace(tasks=2, keys=1)


async def test_two_sweeps_do_not_run_at_once(db: Database, sql: asyncpg.Connection) -> None:
    await add_tasks(sql, 31)

    async with sql.transaction():
        await sql.execute(f"SELECT pg_advisory_xact_lock({SWEEP_LOCK})")
        assert await sweep(db, 30) == Swept(is_alone=False, tasks=0, keys=0)

    assert await sweep(db, 30) == NOTHING._replace(tasks=1)


async def test_a_row_that_is_locked_is_left_for_later(
    db: Database, sql: asyncpg.Connection
) -> None:
    await add_tasks(sql, 31)
    await add_tasks(sql, 32)

    async with sql.transaction():
        await sql.execute("SELECT FROM tasks WHERE title = '31' FOR UPDATE")
        assert await sweep(db, 30) == NOTHING._replace(tasks=1)

    assert await titles(sql) == ["31"]


async def test_a_sweep_reads_its_rows_from_indexes(db: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
    )
    plan = await sql.fetch(f"EXPLAIN {sweeps._SWEEP.sql}".replace("$1", "30").replace("$2", "500"))

    described = "\n".join(row[0] for row in plan)
    assert "Index Scan using ix_tasks_deleted_at" in described
    assert "Index Scan using ix_idempotency_keys_expires_at" in described


# --- The command --------------------------------------------------------------------------


async def test_the_command_removes_everything_that_is_due(
    url: str,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("TRASH_DAYS", "2")
    await add_tasks(sql, 3, BATCH * 2 + 1)
    await add_tasks(sql, 1)
    await add_keys(sql, -1, 2)

    assert await asyncio.to_thread(cli.main, ["sweep"]) == 0

    output = capsys.readouterr().out
    assert output == f"Removed from the trash: {BATCH * 2 + 1}. Expired idempotency keys: 2.\n"
    assert await titles(sql) == ["1"]


async def test_the_command_waits_for_another_sweep(
    url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    await add_tasks(sql, 31)

    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(f"SELECT pg_advisory_xact_lock({SWEEP_LOCK})")
    command = asyncio.create_task(asyncio.to_thread(cli.main, ["sweep"]))
    done, _ = await asyncio.wait([command], timeout=0.5)
    await transaction.commit()

    assert not done
    assert await command == 0
    assert await titles(sql) == []


@pytest.mark.parametrize("days", ["0", "-1", "3651", "many", "1.5", ""])
async def test_the_command_refuses_another_number_of_days(
    url: str, days: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("TRASH_DAYS", days)

    code = await asyncio.to_thread(cli.main, ["sweep"])

    is_unset = days == ""
    assert code == (0 if is_unset else 2)
    assert ("TRASH_DAYS: It must be a whole number" in capsys.readouterr().err) != is_unset


# --- In the background --------------------------------------------------------------------


async def until_swept(sql: asyncpg.Connection) -> None:
    async with asyncio.timeout(GIVE_UP):
        while await titles(sql):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(sweeper, "BATCH_SECONDS", 0.01)


@pytest.mark.usefixtures("_often")
async def test_the_service_sweeps_until_nothing_is_left(
    url: str, sql: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twofold")
    await add_tasks(sql, 8, BATCH + 1)
    app = create_app(settings_of_tests(database_url=url, trash_days=7))

    async with app.router.lifespan_context(app):
        await until_swept(sql)

    assert f"swept: {BATCH} tasks of the trash, 0 expired keys" in caplog.messages
    assert "swept: 1 tasks of the trash, 0 expired keys" in caplog.messages


@pytest.mark.usefixtures("_often")
async def test_a_sweep_survives_a_database_that_is_away(
    url: str, sql: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings_of_tests(database_url=url, request_deadline_seconds=0.5))
    async with app.router.lifespan_context(app):
        await sql.execute("ALTER TABLE tasks RENAME TO away")
        async with asyncio.timeout(GIVE_UP):
            while "the sweep failed" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await sql.execute("ALTER TABLE away RENAME TO tasks")
        await add_tasks(sql, 31)
        await until_swept(sql)


@pytest.mark.usefixtures("_often")
async def test_the_end_of_the_service_cuts_a_sweep_off(url: str, sql: asyncpg.Connection) -> None:
    app = create_app(settings_of_tests(database_url=url))
    async with asyncio.timeout(GIVE_UP), app.router.lifespan_context(app):
        await sql.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        await until_waiting(sql, 1, "relation")

    # The service has ended, while its sweep still waited for the lock.
    await sql.execute("ROLLBACK")


def test_a_service_does_not_sweep_as_soon_as_it_starts() -> None:
    assert sweeper.SWEEP_SECONDS * 0.5 >= 60
