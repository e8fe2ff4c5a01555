"""Through PgBouncer in transaction mode, as behind Neon's ``-pooler`` hosts: the same behaviour.

These are the things that only a pooler, or only a crowd, can get wrong. The whole behaviour suite
goes through it with ``make test-pgbouncer``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest

from api import cli
from api.app import create_app
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.errors import Unavailable
from persistence.migrations import upgrade
from persistence.pool import Pool, PoolSettings
from persistence.sql import Statement
from persistence.urls import parse_database_url
from tests.conftest import (
    HASH_SECRET,
    ROOT,
    new_client,
    new_database,
    run_sql,
    settings_of_tests,
)
from tests.control import GIVE_UP
from tests.people import SESSION_TABLES, Person, sign_in
from tests.pgbouncer import POOLED_HOST, SERVERS, pgbouncer
from tests.surfaces import GraphQLSurface, RestSurface
from tests.trips import TripCounter

pytestmark = pytest.mark.pgbouncer

CROWD: Final = 50

ROUTES: Final = ("direct", "pooled")


@pytest.fixture
async def direct_url(postgres: Postgres) -> str:
    """A migrated database of the test's own, without a pooler."""
    url = await new_database(postgres, f"pooled_{secrets.token_hex(6)}")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    await run_sql(url, "CREATE TABLE changing (value int); INSERT INTO changing VALUES (7)")
    return url


@pytest.fixture
def pooled_url(direct_url: str) -> Iterator[str]:
    """The same database, by the name of a pooled host."""
    with pgbouncer(direct_url) as url:
        yield url


@pytest.fixture(params=ROUTES)
def url(request: pytest.FixtureRequest, direct_url: str) -> Iterator[str]:
    """The database on both of its routes."""
    with ExitStack() as stack:
        is_pooled = request.param == "pooled"
        yield stack.enter_context(pgbouncer(direct_url)) if is_pooled else direct_url


@asynccontextmanager
async def a_pool(url: str, size: int = 1) -> AsyncIterator[Pool]:
    pool = Pool(url, PoolSettings(size, 0, 30, 3600, pre_ping=True))
    yield pool
    await pool.close()


async def read(pool: Pool, sql: str, *, typed: bool = False, **values: Any) -> Any:
    """The one value that a statement finds."""
    wanted = Statement(sql, tuple(values), typed=typed)
    [[value]] = await Database(pool, 5).read(wanted, **values)
    return value


# --- Told apart, and what that means -------------------------------------------------------


async def test_the_pooled_url_is_recognised_by_its_host(direct_url: str, pooled_url: str) -> None:
    assert not parse_database_url(direct_url).pooled
    assert parse_database_url(pooled_url).pooled
    assert "pgbouncer" not in pooled_url


@pytest.mark.parametrize("typed", [True, False])
async def test_a_direct_connection_prepares_and_a_pooled_one_leaves_nothing_behind(
    direct_url: str, pooled_url: str, typed: bool
) -> None:
    prepared = "SELECT count(*) FROM pg_prepared_statements"
    async with a_pool(direct_url) as direct, a_pool(pooled_url) as pooled:
        for _ in range(2 * SERVERS):
            assert await read(pooled, "SELECT $1::int", typed=typed, number=7) == 7
            assert await read(pooled, prepared) == 0
        await read(direct, "SELECT $1::int", typed=typed, number=7)
        assert await read(direct, prepared) >= 2


async def test_one_client_meets_one_server_after_another(pooled_url: str) -> None:
    # Statements of nobody in particular share half of the pool.
    async with a_pool(pooled_url, size=2 * SERVERS) as pool:
        sleeps = [read(pool, "SELECT pg_sleep(0.1)::text") for _ in range(SERVERS)]
        await asyncio.gather(*sleeps)

        backends = {await read(pool, "SELECT pg_backend_pid()") for _ in range(2 * SERVERS)}

    assert len(backends) == SERVERS


@pytest.mark.parametrize(("typed", "expected"), [(True, 1), (False, 2)])
async def test_a_typed_statement_takes_one_trip_from_the_second_time_on(
    pooled_url: str, typed: bool, expected: int
) -> None:
    async with TripCounter.before(pooled_url) as trips, a_pool(trips.url) as pool:
        assert parse_database_url(trips.url).pooled
        await read(pool, "SELECT $1::int", typed=typed, number=7)
        for number in range(2 * SERVERS):
            before = trips.count

            assert await read(pool, "SELECT $1::int", typed=typed, number=number) == number

            assert trips.count - before == expected


async def test_what_is_not_typed_is_read_as_it_is_now(direct_url: str, pooled_url: str) -> None:
    async with a_pool(pooled_url) as pool:
        assert await read(pool, "SELECT value FROM changing") == 7

        await run_sql(direct_url, "ALTER TABLE changing ALTER value TYPE text")

        assert await read(pool, "SELECT value FROM changing") == "7"


async def test_what_is_typed_stays_what_it_says(direct_url: str, pooled_url: str) -> None:
    wanted = "SELECT value::int FROM changing"
    async with a_pool(pooled_url) as pool:
        assert await read(pool, wanted, typed=True) == 7

        for kind in ("text", "bigint USING value::bigint", "numeric"):
            await run_sql(direct_url, f"ALTER TABLE changing ALTER value TYPE {kind}")
            assert await read(pool, wanted, typed=True) == 7


async def test_a_statement_that_nobody_waits_for_gives_its_server_back(pooled_url: str) -> None:
    async with a_pool(pooled_url, size=10) as pool:
        sleeps = [
            Database(pool, 0.3).read(Statement("SELECT pg_sleep(600)::text", ())) for _ in range(10)
        ]
        results = await asyncio.gather(*sleeps, return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}

        # Sooner than the sleeps end.
        async with asyncio.timeout(GIVE_UP):
            assert await read(pool, "SELECT $1::int", typed=True, number=7) == 7


async def test_a_failed_statement_leaves_no_transaction_open(pooled_url: str) -> None:
    age = "SELECT extract(epoch FROM clock_timestamp() - now())::float8"
    async with a_pool(pooled_url) as pool:
        for typed in (True, False) * SERVERS:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await read(pool, "SELECT 1 / $1::int", typed=typed, number=0)

            assert await read(pool, age, typed=typed) < 0.1


async def test_migrations_pass_through_it_and_wait_for_one_another(postgres: Postgres) -> None:
    direct = await new_database(postgres, f"fresh_{secrets.token_hex(6)}")
    with pgbouncer(direct) as pooled:
        # Other processes don't know the host by its name; this is how they are told.
        local = pooled.replace(POOLED_HOST, "127.0.0.1") + "?pgbouncer=true"
        assert await asyncio.gather(*(migrate(local) for _ in range(3))) == [0, 0, 0]

        async with a_pool(pooled) as pool:
            assert await read(pool, "SELECT count(*) FROM tasks") == 0


async def migrate(url: str) -> int:
    """``twofold migrate``, in a process of its own. Returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "api.cli", "migrate"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


# --- A crowd -------------------------------------------------------------------------------


@asynccontextmanager
async def a_crowd(url: str, direct_url: str, **settings: Any) -> AsyncIterator[list[Person]]:
    """People of both protocols on an app that has a connection for every other of them."""
    app = create_app(
        settings_of_tests(database_url=url, sqlalchemy_pool_size=CROWD // 2, **settings)
    )
    async with app.router.lifespan_context(app), new_client(app) as client:
        surfaces = (RestSurface(client), GraphQLSurface(client))
        sql = await asyncpg.connect(direct_url)
        people = [
            await sign_in(sql, surfaces[number % 2], f"person {number}", HASH_SECRET)
            for number in range(CROWD)
        ]
        await sql.close()
        yield people


async def live(person: Person, number: int) -> None:
    """Do everything that can be done, and require every response to be right."""
    mine = f"{person.user_id}, {number}"
    made = [await person.create_task(f"{mine}, {n}", description=f"of {mine}") for n in range(3)]
    assert [task.title for task in made] == [f"{mine}, {n}" for n in range(3)]
    assert {(task.user_id, task.version) for task in made} == {(person.user_id, 1)}

    changed = await person.change_task(made[0].id, completed=True, description=None)
    assert (changed.title, changed.description) == (f"{mine}, 0", None)
    assert (changed.completed, changed.version) == (True, 2)
    assert await person.get_task(made[0].id) == changed
    with person.refused("precondition_failed"):
        await person.change_task(made[0].id, 1, title="too late")
    with person.refused("not_found_error"):
        await person.get_task(2**62)

    everything = (await person.list_tasks()).tasks
    assert everything == [made[2], made[1], changed]
    page = await person.list_tasks(limit=1, completed=False)
    rest = await person.list_tasks(limit=5, completed=False, cursor=page.next_cursor)
    assert (page.tasks, rest.tasks) == ([made[2]], [made[1]])

    await person.delete_task(made[1].id, 1)
    ids = [task.id for task in made]
    assert await person.delete_tasks(ids) == ([ids[0], ids[2]], [ids[1]])
    assert (await person.list_tasks()).tasks == []


async def test_fifty_people_at_once_each_live_their_own_life(url: str, direct_url: str) -> None:
    async with a_crowd(url, direct_url) as people:
        for number in range(3):
            await asyncio.gather(*(live(person, number) for person in people))


async def test_a_schema_of_our_own_is_in_every_statement(
    url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_SCHEMA", "ours")
    moves = [await asyncio.to_thread(cli.main, [command]) for command in ("move-tables", "migrate")]
    # What a statement without the schema would find.
    await run_sql(direct_url, "CREATE TABLE public.tasks (theirs int)")

    async with a_crowd(url, direct_url, database_schema="ours") as people:
        await asyncio.gather(*(live(person, 0) for person in people))
        ada, bob = people[:2]
        task = await ada.create_task("water the plants")
        exit_code = await asyncio.to_thread(cli.main, ["reassign", ada.user_id, bob.user_id])
        assert (await bob.get_task(task.id)).user_id == bob.user_id

    assert (*moves, exit_code) == (0, 0, 0)
    # Those that ``live`` has left in the trash, too.
    assert "Reassigned 4 tasks.\n" in capsys.readouterr().out


RETYPED: Final = [
    "ALTER TABLE tasks ALTER version TYPE bigint",
    "ALTER TABLE tasks ALTER title TYPE text, ALTER description TYPE varchar(2000)",
    "ALTER TABLE tasks ALTER user_id TYPE varchar(100)",
    "ALTER TABLE tasks ALTER id TYPE integer",
    "ALTER TABLE tasks ALTER created_at TYPE timestamptz(6), ALTER updated_at TYPE timestamptz(6)",
    "ALTER TABLE user_sessions ALTER token_hash TYPE varchar(64), ALTER user_id TYPE varchar(100)",
    "ALTER TABLE user_sessions ALTER expires_at TYPE timestamptz(0)",
    "ALTER TABLE tasks ADD COLUMN colour text",
    "ALTER TABLE tasks DROP COLUMN colour",
    "ALTER TABLE tasks ALTER version TYPE integer, ALTER id TYPE bigint",
]


async def test_columns_change_their_types_under_a_crowd(url: str, direct_url: str) -> None:
    async with a_crowd(url, direct_url) as people:
        await asyncio.gather(*(live(person, 0) for person in people))
        over = asyncio.Event()
        lives = [asyncio.create_task(go_on_living(person, over)) for person in people]

        for statement in RETYPED:
            await run_sql(direct_url, f"SET lock_timeout = '10s'; {statement}")
            await asyncio.sleep(0.3)

        over.set()
        assert min(await asyncio.gather(*lives)) > 1


async def go_on_living(person: Person, over: asyncio.Event) -> int:
    """One life after another. Returns how many."""
    lives = 0
    while not over.is_set():
        lives += 1
        await live(person, lives)
    return lives


@pytest.mark.parametrize("statement", RETYPED[:-2])
async def test_a_column_changes_its_type_while_everything_is_warm(
    url: str, direct_url: str, statement: str
) -> None:
    async with a_crowd(url, direct_url) as people:
        few = people[:2]
        for person in few * 2:
            await live(person, 0)

        await run_sql(direct_url, statement)

        for person in few:
            await live(person, 1)
