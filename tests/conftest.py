"""Fixtures: a real PostgreSQL, the app on it, and the people who use it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

import api.state
from api.app import create_app
from api.settings import Settings
from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.migrations import upgrade
from tests import documented, pgbouncer
from tests.control import GIVE_UP
from tests.people import HASH_SECRET, SESSION_TABLES, Person, sign_in
from tests.surfaces import GraphQLSurface, RestSurface, Surface
from tests.trips import TripCounter


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL in a temporary directory."""
    with embedded_postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="session", autouse=pgbouncer.THROUGH)
def _pooled(postgres: Postgres) -> Iterator[None]:
    """PgBouncer between PostgreSQL and every app in this process."""
    with pgbouncer.redirected(postgres.url()):
        yield


@pytest.fixture(scope="session")
async def shared_database(postgres: Postgres) -> AsyncIterator[SharedDatabase]:
    """A migrated database with the auth server's tables, and a connection to it."""
    url = await new_database(postgres, "twofold")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    shared_database = SharedDatabase(url)
    yield shared_database
    await shared_database.close()


@pytest.fixture(scope="session")
def database_url(shared_database: SharedDatabase) -> str:
    """The database of the app under test."""
    return shared_database.url


@pytest.fixture(scope="session")
async def trips(database_url: str) -> AsyncIterator[TripCounter]:
    """Counts the round trips between the app and PostgreSQL."""
    async with TripCounter.before(pgbouncer.through(database_url)) as counter:
        yield counter


@pytest.fixture(scope="session")
def settings(trips: TripCounter) -> Settings:
    """The settings of the app under test."""
    return settings_of_tests(database_url=trips.url)


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The app, started."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with new_client(app) as client:
        yield client


@pytest.fixture
async def sql(shared_database: SharedDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database of the app."""
    connection = await shared_database.connection()
    yield connection
    if not connection.is_closed():
        await connection.reset()


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Signals as before the test: a command ignores those that it handled to the process's end."""
    if sys.platform == "win32":
        yield
        return
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    handlers = [signal.getsignal(number) for number in numbers]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture(autouse=True)
async def _empty_tables(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    if "shared_database" in request.fixturenames:
        shared_database: SharedDatabase = request.getfixturevalue("shared_database")
        connection = await shared_database.connection()
        await connection.execute(
            "DELETE FROM tasks; DELETE FROM feeds WHERE user_id <> '';"
            " DELETE FROM idempotency_keys; DELETE FROM user_sessions; DELETE FROM users"
        )


@pytest.fixture(params=["rest", "graphql"])
def surface(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Surface:
    """Each protocol in turn: a test with this fixture runs through both."""
    return {"rest": RestSurface, "graphql": GraphQLSurface}[request.param](client)


@pytest.fixture
async def ada(surface: Surface, sql: asyncpg.Connection) -> Person:
    """A user with a session."""
    return await sign_in(sql, surface, "ada", HASH_SECRET)


@pytest.fixture
async def bob(surface: Surface, sql: asyncpg.Connection) -> Person:
    """Another user with a session."""
    return await sign_in(sql, surface, "bob", HASH_SECRET)


@pytest.fixture
async def ada_client(app: FastAPI, sql: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that sends Ada's token with every request. For what is specific to REST."""
    async with new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        yield client


@pytest.fixture
async def bob_client(app: FastAPI, sql: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """The same for Bob."""
    async with new_client(app) as client:
        bob = await sign_in(sql, RestSurface(client), "bob", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {bob.token}"
        yield client


@pytest.fixture
async def spent_client(
    ada_client: httpx.AsyncClient, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client after she spent her budgets, of one read and one write a minute."""
    allowance = {"rate_limit_enabled": True} | dict.fromkeys(
        ("rate_limit_read", "rate_limit_write"), "1/minute"
    )
    app = create_app(settings_of_tests(database_url=database_url, **allowance))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        await client.get("/tasks")
        await client.delete("/tasks/999")
        yield client


@pytest.fixture
async def without_database(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with a token, of an app whose PostgreSQL does not answer."""
    monkeypatch.setattr(api.state, "PROBE_SECONDS", 0.02)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    app = create_app(settings_of_tests(database_url=nowhere, request_deadline_seconds=0.05))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = "Bearer x"
        yield client


@pytest.fixture
def stranger(surface: Surface) -> Person:
    """A user without a session."""
    return Person("stranger", "", surface)


def settings_of_tests(**values: object) -> Settings:
    """The defaults of the tests with these values. The environment and ``.env`` are ignored."""
    defaults = {
        "environment": "testing",
        "session_hash_secret": HASH_SECRET,
        "sqlalchemy_pool_size": 5,
        # Most tests send more requests than a budget allows.
        "rate_limit_enabled": False,
    }
    settings = defaults | values
    if isinstance(url := settings.get("database_url"), str):
        settings["database_url"] = pgbouncer.through(url)
    return Settings(_env_file=None, **settings)  # type: ignore[arg-type]


def new_client(app: FastAPI) -> httpx.AsyncClient:
    """A client of an app in this process. It fails on a response that OpenAPI does not document."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://localhost",
        event_hooks={"response": [documented.check]},
    )


class SharedDatabase:
    """A database, and one connection to it: opening one takes 20 ms. A lost one is replaced.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: asyncpg.Connection | None = None

    async def connection(self) -> asyncpg.Connection:
        """The connection."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.url)
        return self._connection

    async def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            await self._connection.close()


async def new_database(postgres: Postgres, name: str) -> str:
    """An empty database. Returns its URL."""
    await run_sql(postgres.url("postgres"), f'CREATE DATABASE "{name}"')
    return postgres.url(name)


async def run_sql(url: str, statements: str) -> None:
    """Run statements on a new connection."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def until_waiting(sql: asyncpg.Connection, wanted: int, kind: str = "advisory") -> None:
    """Wait until so many statements in a database wait for a lock of this kind."""
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = $1 AND NOT granted"
    )
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(waiting, kind) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


ROOT = Path(__file__).parent.parent
