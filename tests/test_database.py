"""The database's failures as requests meet them: bounded in time, told apart, and healed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg
import psutil
import pytest

from persistence import database
from persistence.connection import Connection, connect
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.errors import Unavailable, connection_lost
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from persistence.urls import DatabaseURL
from tests.conftest import new_database, run_sql
from tests.control import GIVE_UP, Control
from tests.pools import holding
from tests.trips import TripCounter

ONE = Statement("SELECT 1", ())
BACKEND = Statement("SELECT pg_backend_pid()", ())
SLEEP = Statement("SELECT pg_sleep($1)", ("seconds",))
COUNTED_SLEEP = Statement("SELECT nextval('runs'), pg_sleep($1)", ("seconds",))
NUMBER = Statement("SELECT $1::int", ("number",))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that may be stopped, restarted and maltreated."""
    with embedded_postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="module")
async def url(server: Postgres) -> str:
    """A database with a sequence, which counts runs whether or not they are rolled back."""
    url = await new_database(server, "pool")
    await run_sql(url, "CREATE SEQUENCE runs; CREATE TABLE changing (value int)")
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Pool]:
    """One connection, no more: whatever breaks it is seen by the next."""
    async with a_pool(url) as pool:
        yield pool


@asynccontextmanager
async def a_pool(url: str, size: int = 1, **changes: Any) -> AsyncIterator[Pool]:
    settings = {"size": size, "max_overflow": 0, "timeout": 30, "recycle": 3600, "pre_ping": True}
    pool = Pool(url, PoolSettings(**(settings | changes)))
    try:
        yield pool
    finally:
        await pool.close()


async def backend_of(pool: Pool) -> int:
    """The server's process behind the pool's one connection."""
    [[pid]] = await Database(pool, 10).read(BACKEND)
    return int(pid)


@pytest.fixture(scope="module")
async def control() -> AsyncIterator[Control]:
    """How late the machine itself is, all the time."""
    async with Control.running() as control:
        yield control


@pytest.fixture
def taking(control: Control) -> Taking:
    """Bounds the seconds of a block, as on an idle machine: ``with taking(at_most=2)``."""

    @contextmanager
    def measure(at_least: float = 0.0, at_most: float = GIVE_UP) -> Iterator[None]:
        control.slowest = 0.0
        started = time.monotonic()
        yield
        assert at_least <= time.monotonic() - started <= control.bound(at_most)

    return measure


Taking = Callable[..., AbstractContextManager[None]]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that neither answer nor end."""
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def everyone(server: Postgres) -> list[int]:
    main = psutil.Process(server.process.pid)
    return [main.pid, *(child.pid for child in main.children(recursive=True))]


async def running(url: str, fragment: str) -> int:
    """How many other connections are busy with such a statement."""
    connection = await asyncpg.connect(url)
    busy: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()",
        f"%{fragment}%",
    )
    await connection.close()
    return busy


async def until_running(url: str, fragment: str, wanted: int) -> None:
    deadline = time.monotonic() + GIVE_UP
    while await running(url, fragment) != wanted:
        assert time.monotonic() < deadline, f"not {wanted} times {fragment}"
        await asyncio.sleep(0.01)


async def terminate(url: str, pids: str) -> None:
    """End other connections from the server's side, and wait until they are gone."""
    ended = f"SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE {pids}"  # noqa: S608
    await run_sql(url, f"{ended} AND pid <> pg_backend_pid()")


# --- The deadline -------------------------------------------------------------------------


async def test_the_deadline_covers_waiting_for_the_pool(pool: Pool, taking: Taking) -> None:
    async with holding(pool):
        with (
            taking(0.2, 1),
            pytest.raises(Unavailable, match=r"TimeoutError: waiting for a connection$"),
        ):
            await Database(pool, 0.2).read(ONE)

    assert await Database(pool, 0.2).read(ONE)


async def test_the_deadline_is_one_over_all_statements(pool: Pool, taking: Taking) -> None:
    db = Database(pool, 2)
    await db.read(SLEEP, seconds=1)

    # Less than a deadline of its own would be.
    with taking(at_most=1.5), pytest.raises(Unavailable, match="TimeoutError"):
        await db.write(SLEEP, seconds=60)

    with taking(at_most=0.5), pytest.raises(Unavailable, match="TimeoutError"):
        await db.read(SLEEP, seconds=60)


async def test_the_time_between_statements_does_not_count(pool: Pool) -> None:
    await backend_of(pool)
    db = Database(pool, 0.3)
    await db.read(ONE)

    await asyncio.sleep(0.4)

    assert await db.read(ONE)


async def test_the_time_of_concurrent_statements_counts_once(url: str) -> None:
    async with a_pool(url, size=8) as pool:
        db = Database(pool, 1.5)

        await asyncio.gather(*(db.read(SLEEP, seconds=0.4) for _ in range(8)))

        assert await db.read(ONE)


async def test_one_request_has_at_most_four_statements_under_way(url: str, taking: Taking) -> None:
    async with a_pool(url, size=10) as pool:
        db = Database(pool, 5)
        sleeps = [asyncio.create_task(db.read(SLEEP, seconds=0.5)) for _ in range(10)]
        await until_running(url, "pg_sleep", 4)
        in_use = pool.in_use

        with taking(at_most=0.3):
            assert await Database(pool, 5).read(ONE)

        assert in_use == 4
        assert len(await asyncio.gather(*sleeps)) == 10


async def test_waiting_for_the_others_of_a_request_counts_towards_its_deadline(
    url: str, taking: Taking
) -> None:
    async with a_pool(url, size=10) as pool:
        db = Database(pool, 2)

        with taking(at_most=2.4):
            found = await asyncio.gather(
                *(db.read(SLEEP, seconds=1.2) for _ in range(12)), return_exceptions=True
            )

    assert [isinstance(each, Unavailable) for each in found] == [False] * 4 + [True] * 8


async def test_when_the_deadline_has_passed_nothing_is_sent(pool: Pool, taking: Taking) -> None:
    before = await backend_of(pool)
    db = Database(pool, 0.2)
    with pytest.raises(Unavailable):
        await db.read(SLEEP, seconds=1)

    with taking(at_most=0.1), pytest.raises(Unavailable, match="none of the deadline is left"):
        await db.write(ONE)

    after = await backend_of(pool)
    with pytest.raises(Unavailable, match="none of the deadline is left"):
        await db.write(ONE)
    assert after != before
    assert await backend_of(pool) == after


async def test_more_requests_than_connections_take_turns(url: str) -> None:
    async with a_pool(url, size=2) as pool:
        sleeps = [Database(pool, 5).read(SLEEP, seconds=0.02) for _ in range(20)]

        assert len(await asyncio.gather(*sleeps)) == 20
        assert pool.in_use == 0


async def test_a_pool_that_gives_up_before_the_deadline_is_as_unavailable(
    url: str, taking: Taking
) -> None:
    async with a_pool(url, timeout=0.1) as pool, holding(pool):
        with taking(0.1, 1), pytest.raises(Unavailable, match="no connection within"):
            await Database(pool, 10).read(ONE)


# --- A server that hangs ------------------------------------------------------------------


async def test_a_stopped_server_is_told_from_a_slow_one_by_the_deadline(
    server: Postgres, pool: Pool, taking: Taking
) -> None:
    before = await backend_of(pool)

    with stopped(*everyone(server)):
        with (
            taking(0.3, 2),
            pytest.raises(Unavailable, match=r"TimeoutError: running the statement$"),
        ):
            await Database(pool, 0.3).read(ONE)
        with taking(0.3, 2), pytest.raises(Unavailable, match=r"TimeoutError: connecting$"):
            # Which needs a new connection, as soon as the old one is given up.
            await Database(pool, 1).write(ONE)

    assert await backend_of(pool) != before


async def test_a_ping_of_a_stopped_server_ends_with_the_deadline_too(
    server: Postgres, pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    await backend_of(pool)
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)

    with stopped(*everyone(server)), taking(0.3, 2), pytest.raises(Unavailable):
        await Database(pool, 0.3).read(ONE)


async def test_a_connection_lost_in_silence_costs_a_write_a_ping_and_no_failure(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    silent = await backend_of(pool)
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)
    monkeypatch.setattr("persistence.connection.PING_TIMEOUT", 0.2)

    with stopped(silent), taking(0.2, 1):
        [[fresh]] = await Database(pool, 5).write(BACKEND)

    assert fresh != silent


async def test_only_a_connection_that_lay_idle_for_long_is_pinged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TripCounter.before(url) as trips, a_pool(trips.url) as pool:
        await Database(pool, 5).read(ONE)

        assert await trips_of(trips, pool) == 1
        monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)
        assert await trips_of(trips, pool) == 2


async def test_without_pre_ping_nothing_is_pinged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.pool.PING_AFTER_IDLE", 0.0)

    async with TripCounter.before(url) as trips, a_pool(trips.url, pre_ping=False) as pool:
        await Database(pool, 5).read(ONE)

        assert await trips_of(trips, pool) == 1


async def trips_of(trips: TripCounter, pool: Pool) -> int:
    """The round trips of one read on a connection that is warm."""
    before = trips.count
    await Database(pool, 5).read(ONE)
    return trips.count - before


# --- A server that goes away --------------------------------------------------------------


async def test_reads_ride_out_a_restart(server: Postgres, url: str) -> None:
    async with a_pool(url, size=5) as pool:
        over = asyncio.Event()
        readers = [asyncio.create_task(read_until(over, pool)) for _ in range(10)]
        await asyncio.sleep(0.1)

        async with down(server):
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        over.set()

        assert min(await asyncio.gather(*readers)) > 5


async def read_until(over: asyncio.Event, pool: Pool) -> int:
    """Read again and again, as requests do. Returns how often."""
    times = 0
    while not over.is_set():
        await Database(pool, 10).read(ONE)
        await asyncio.sleep(0.005)
        times += 1
    return times


async def test_a_server_that_is_down_is_unavailable_by_the_deadline(
    server: Postgres, pool: Pool, taking: Taking
) -> None:
    async with down(server):
        for ask in (Database.read, Database.write):
            with taking(0.2, 2), pytest.raises(Unavailable) as raised:
                await ask(Database(pool, 0.2), ONE)
            assert "TimeoutError: connecting, after ConnectionRefusedError: " in str(raised.value)

    assert await Database(pool, 10).write(ONE)


async def test_a_server_that_stays_down_is_given_up_before_the_deadline(
    server: Postgres, pool: Pool, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    monkeypatch.setattr(database, "RETRY_FOR", 0.1)

    async with down(server):
        with taking(at_most=2), pytest.raises(Unavailable, match="ConnectionRefusedError"):
            await Database(pool, 10).read(ONE)


@asynccontextmanager
async def down(server: Postgres) -> AsyncIterator[None]:
    """Stopped in order, its connections closed, and started again on the same port."""
    # In a thread, so that clients go on; starting is for this one, which the server dies with.
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        server.start()


async def test_a_time_out_is_not_tried_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def time_out(_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise TimeoutError

    monkeypatch.setattr("persistence.pool.connect", time_out)

    with pytest.raises(Unavailable, match="TimeoutError"):
        await Database(pool, 10).read(ONE)

    assert isinstance(TimeoutError(), OSError)
    assert not connection_lost(TimeoutError())
    assert attempts == 1


async def test_a_server_out_of_connections_is_asked_again(server: Postgres, url: str) -> None:
    await run_sql(url, "CREATE ROLE few LOGIN CONNECTION LIMIT 1 PASSWORD 'few'")
    few = url.replace(f"{server.user}:{server.password}", "few:few")

    async with a_pool(few, size=4) as pool:
        waiting = [Database(pool, 5).write(SLEEP, seconds=0.05) for _ in range(8)]

        assert len(await asyncio.gather(*waiting)) == 8


async def test_connections_that_are_lost_as_soon_as_they_are_made_are_replaced(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    async def lose(database: DatabaseURL) -> Connection:
        nonlocal made
        made += 1
        connection = await connect(database)
        if made < 5:
            connection.terminate()
        return connection

    monkeypatch.setattr("persistence.pool.connect", lose)

    assert await Database(pool, 10).write(ONE)
    assert made == 5


async def test_a_closed_idle_connection_is_replaced_without_a_failed_write(
    url: str, pool: Pool
) -> None:
    before = await backend_of(pool)

    await terminate(url, f"pid = {before}")
    await asyncio.sleep(0.01)
    [[after]] = await Database(pool, 5).write(BACKEND)

    assert after != before


async def test_a_write_that_may_have_happened_is_not_repeated(url: str, pool: Pool) -> None:
    await run_sql(url, "ALTER SEQUENCE runs RESTART")
    writing = asyncio.create_task(Database(pool, 10).write(COUNTED_SLEEP, seconds=5))
    await until_running(url, "nextval", 1)

    await terminate(url, "query LIKE '%nextval%'")
    with pytest.raises(Unavailable, match="terminating connection"):
        await writing

    [[next_run]] = await Database(pool, 5).read(Statement("SELECT nextval('runs')", ()))
    assert next_run == 2


async def test_a_read_whose_connection_is_lost_runs_again(url: str, pool: Pool) -> None:
    await run_sql(url, "ALTER SEQUENCE runs RESTART")
    reading = asyncio.create_task(Database(pool, 10).read(COUNTED_SLEEP, seconds=0.3))
    await until_running(url, "nextval", 1)

    await terminate(url, "query LIKE '%nextval%'")

    assert [record["nextval"] for record in await reading] == [2]


async def test_a_connection_that_was_terminated_is_not_met_again(url: str, pool: Pool) -> None:
    suicide = Statement("SELECT pg_terminate_backend(pg_backend_pid())", ())
    for _ in range(20):
        with pytest.raises(Unavailable, match="terminating connection"):
            await Database(pool, 5).write(suicide)

        assert await Database(pool, 5).write(ONE)


# --- A caller that goes away --------------------------------------------------------------


async def test_a_statement_cancelled_half_way_leaves_the_pool_healthy(
    url: str, pool: Pool, taking: Taking
) -> None:
    reading = asyncio.create_task(Database(pool, 10).read(SLEEP, seconds=5))
    await until_running(url, "pg_sleep", 1)

    reading.cancel()
    with taking(at_most=2), pytest.raises(asyncio.CancelledError):
        await reading

    assert await Database(pool, 1).read(ONE)


@pytest.mark.parametrize("seconds", [0.001, 0.003, 0.01, 0.03])
async def test_being_cancelled_at_any_moment_leaks_no_connection(url: str, seconds: float) -> None:
    async with a_pool(url, size=3) as pool:
        for times in range(30):
            request = asyncio.create_task(Database(pool, 5).read(SLEEP, seconds=0.005))
            await asyncio.sleep(seconds * times / 30)
            request.cancel()
            await asyncio.sleep(0)
            request.cancel()
            with suppress(asyncio.CancelledError):
                await request

        await until_all_are_back(pool)
        assert await Database(pool, 1).read(ONE)


async def until_all_are_back(pool: Pool) -> None:
    async with asyncio.timeout(GIVE_UP):
        while pool.in_use:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def test_nothing_goes_on_in_the_server_once_the_deadline_has_passed(
    url: str, pool: Pool, taking: Taking
) -> None:
    with taking(at_most=2), pytest.raises(Unavailable, match="TimeoutError"):
        await Database(pool, 0.2).write(SLEEP, seconds=5)

    await asyncio.sleep(0.05)
    assert await running(url, "pg_sleep") == 0


# --- Whose fault it is --------------------------------------------------------------------


@pytest.mark.parametrize("number", ["none", 2**31, []])
async def test_a_wrong_argument_is_our_defect_and_costs_no_connection(
    pool: Pool, number: object, taking: Taking
) -> None:
    before = await backend_of(pool)

    with taking(at_most=2), pytest.raises(asyncpg.DataError, match="invalid input"):
        await Database(pool, 10).read(NUMBER, number=number)

    assert await backend_of(pool) == before


async def test_misusing_the_driver_is_our_defect_and_is_not_tried_again(
    pool: Pool,
    taking: Taking,
) -> None:
    misused = Statement(NUMBER.sql, ())

    with taking(at_most=2), pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await Database(pool, 10).read(misused)

    assert await Database(pool, 1).read(ONE)


RAISE = "DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08006",  # connection_failure
        "0A000",  # feature_not_supported
        "2200H",  # sequence_generator_limit_exceeded
        "25006",  # read_only_sql_transaction: a replica, or a failover
        "25P02",  # in_failed_sql_transaction: a pooler's server
        "26000",  # invalid_sql_statement_name: a pooler's server
        "28000",  # invalid_authorization_specification
        "3D000",  # invalid_catalog_name
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "42501",  # insufficient_privilege
        "42703",  # undefined_column: not migrated
        "42883",  # undefined_function
        "42P05",  # duplicate_prepared_statement: a pooler's server
        "42P01",  # undefined_table: not migrated
        "53100",  # disk_full
        "53300",  # too_many_connections
        "55P03",  # lock_not_available
        "57014",  # query_canceled
        "57P03",  # cannot_connect_now
        "54001",  # statement_too_complex
        "58030",  # io_error
        "HV000",  # fdw_error: sessions in a foreign table
        "P0001",  # raise_exception: somebody's trigger
        "XX000",  # internal_error
        "YY000",  # a vendor's
    ],
)
async def test_what_is_the_servers_fault_is_unavailable(
    pool: Pool, sqlstate: str, monkeypatch: pytest.MonkeyPatch, taking: Taking
) -> None:
    monkeypatch.setattr(database, "RETRY_FOR", 0.1)

    with taking(at_most=2), pytest.raises(Unavailable, match="as told"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))

    assert await Database(pool, 5).read(ONE)


@pytest.mark.parametrize(
    "sqlstate",
    [
        "22001",  # string_data_right_truncation
        "22003",  # numeric_value_out_of_range
        "22021",  # character_not_in_repertoire
        "23505",  # unique_violation
        "23514",  # check_violation
        "42601",  # syntax_error
    ],
)
async def test_what_is_the_statements_fault_is_our_defect(pool: Pool, sqlstate: str) -> None:
    before = await backend_of(pool)

    with pytest.raises(asyncpg.PostgresError, match="as told"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))

    assert await backend_of(pool) == before


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
async def test_who_forgot_to_say_that_there_is_a_pooler_is_told(pool: Pool, sqlstate: str) -> None:
    with pytest.raises(Unavailable, match=r"as told \(behind a pooler .*pgbouncer=true\)$"):
        await Database(pool, 5).read(Statement(RAISE.format(sqlstate), ()))


async def test_what_the_server_says_is_told_in_one_line(pool: Pool) -> None:
    detailed = (
        "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100', DETAIL = 'ada_client'; END $$"
    )

    with pytest.raises(Unavailable) as refusal:
        await Database(pool, 5).read(Statement(detailed, ()))

    assert refusal.value.reason == "database: DiskFullError: full"


async def test_a_column_that_changed_its_type_is_read_as_it_is_now(url: str, pool: Pool) -> None:
    wanted = Statement("SELECT value FROM changing", ())
    await run_sql(url, "DELETE FROM changing; INSERT INTO changing VALUES (7)")
    assert [record["value"] for record in await Database(pool, 5).read(wanted)] == [7]

    await run_sql(url, "ALTER TABLE changing ALTER value TYPE text")

    assert [record["value"] for record in await Database(pool, 5).read(wanted)] == ["7"]


async def test_the_server_sees_who_connects(pool: Pool) -> None:
    [[name]] = await Database(pool, 5).read(
        Statement("SELECT current_setting('application_name')", ())
    )

    assert name == "twofold"
