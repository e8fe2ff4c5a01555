"""Tables that change while the service runs: readiness says so, and what was known is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import create_app
from api.server import readiness
from persistence.database import Database
from persistence.sessions import session_table
from persistence.sql import Statement
from tests.conftest import new_client, run_sql, settings_of_tests
from tests.trips import TripCounter


@pytest.mark.parametrize(
    ("trouble", "failing"),
    [
        ("DROP TABLE tasks", "tasks"),
        ("ALTER TABLE tasks RENAME TO jobs", "tasks"),
        ("ALTER TABLE tasks RENAME title TO name", "tasks"),
        ("REVOKE INSERT ON tasks FROM servant", "tasks"),
        ("REVOKE UPDATE ON tasks FROM servant", "tasks"),
        ("REVOKE DELETE ON tasks FROM servant", "tasks"),
        ("REVOKE SELECT ON tasks FROM servant", "tasks"),
        ("DROP TABLE idempotency_keys", "idempotency_keys"),
        ("REVOKE UPDATE ON idempotency_keys FROM servant", "idempotency_keys"),
        ("DROP TABLE feeds", "feeds"),
        ("REVOKE SELECT ON feeds FROM servant", "feeds"),
        ("REVOKE SELECT ON user_sessions FROM servant", "sessions"),
        ("DROP TABLE user_sessions", "sessions"),
        ("ALTER TABLE user_sessions RENAME expires_at TO ends_at", "sessions"),
    ],
)
async def test_a_table_that_cannot_be_used_any_more_is_unready(
    owners: str, servants: str, monkeypatch: pytest.MonkeyPatch, trouble: str, failing: str
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    app = create_app(settings_of_tests(database_url=servants))
    async with app.router.lifespan_context(app), new_client(app) as client:
        before = await client.get("/health/ready")
        await run_sql(owners, trouble)
        after = await client.get("/health/ready")

    assert (before.status_code, after.status_code) == (200, 503)
    assert after.json()["failing"] == failing


STOCK = """
    CREATE TABLE session (token text, "userId" text, "expiresAt" timestamptz);
    INSERT INTO session VALUES ('t', 'ada', now() + interval '1 h');
    GRANT SELECT ON session TO servant;
"""
RENAMED = """
    ALTER TABLE session RENAME TO sessions;
    ALTER TABLE sessions RENAME "expiresAt" TO expires_at;
"""


@asynccontextmanager
async def adas_client(url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token of a stock session, of an app with a crowd's connections open."""
    app = create_app(settings_of_tests(database_url=url, session_store="better-auth", **settings))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = "Bearer t"
        before = await asyncio.gather(*(client.get("/tasks") for _ in range(20)))
        assert {response.status_code for response in before} == {200}
        yield client


@pytest.mark.parametrize("change", [RENAMED, *RENAMED.splitlines()[1:2]], ids=["both", "table"])
async def test_a_session_table_that_is_renamed_is_found_without_a_restart(
    owners: str, servants: str, change: str
) -> None:
    await run_sql(owners, STOCK)
    async with adas_client(servants) as client:
        await run_sql(owners, change)

        responses = [await client.get("/tasks"), await client.get("/health/ready")]

    assert [response.status_code for response in responses] == [200, 200]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[Statement]:
    """How often each statement was sent."""
    counts: Counter[Statement] = Counter()
    read = Database.read

    async def count(self: Database, statement: Statement, /, **values: Any) -> Any:
        counts[statement] += 1
        return await read(self, statement, **values)

    monkeypatch.setattr(Database, "read", count)
    return counts


async def test_a_crowd_that_finds_it_renamed_looks_for_it_once(
    owners: str, servants: str, statements: Counter[Statement]
) -> None:
    await run_sql(owners, STOCK)
    # So far away that all of them have sent their look-up when the first one has failed.
    async with (
        TripCounter.before(servants) as trips,
        adas_client(trips.url, sqlalchemy_pool_size=40) as client,
    ):
        trips.delay = 0.05
        await run_sql(owners, RENAMED)
        statements.clear()

        responses = await asyncio.gather(*(client.get("/tasks") for _ in range(20)))

    assert {response.status_code for response in responses} == {200}
    assert statements[session_table.DESCRIBE] == 1


async def test_a_request_that_is_cancelled_takes_the_response_from_nobody(
    owners: str, servants: str, statements: Counter[Statement]
) -> None:
    await run_sql(owners, STOCK)
    async with (
        TripCounter.before(servants) as trips,
        adas_client(trips.url, sqlalchemy_pool_size=40) as client,
    ):
        trips.delay = 0.05
        await run_sql(owners, RENAMED)
        statements.clear()
        requests = [asyncio.create_task(client.get("/tasks")) for _ in range(20)]
        # Until one of them, the first, looks for it.
        while not statements[session_table.DESCRIBE]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        requests.pop(0).cancel()

        responses = await asyncio.gather(*requests)

    assert {response.status_code for response in responses} == {200}
    assert statements[session_table.DESCRIBE] == 1


async def test_a_crowd_that_finds_no_table_any_more_looks_for_it_once(
    owners: str, servants: str, statements: Counter[Statement]
) -> None:
    await run_sql(owners, STOCK)
    async with adas_client(servants, sqlalchemy_pool_size=40) as client:
        await run_sql(owners, "ALTER TABLE session RENAME TO elsewhere")
        statements.clear()

        responses = await asyncio.gather(*(client.get("/tasks") for _ in range(40)))

    assert {response.status_code for response in responses} == {503}
    assert statements[session_table.DESCRIBE] == 1


async def test_a_crowd_that_waits_for_a_locked_table_is_answered_at_its_deadline(
    owners: str, servants: str
) -> None:
    await run_sql(owners, STOCK)
    # Long enough for opening 20 connections first, also on a slow machine.
    settings = {"sqlalchemy_pool_size": 40, "request_deadline_seconds": 3}
    async with adas_client(servants, **settings) as client:
        await run_sql(owners, RENAMED)
        holder = await asyncpg.connect(owners)
        async with holder.transaction():
            await holder.execute("LOCK TABLE sessions")
            # Some wait for the inspection of another, and begin one when that is over.
            crowd = []
            for _ in range(20):
                crowd.append(asyncio.create_task(client.get("/tasks")))
                await asyncio.sleep(0.01)
            during = await asyncio.gather(*crowd)
        await holder.close()

        after = await client.get("/tasks")

    assert {response.status_code for response in during} == {503}
    assert after.status_code == 200


TO_ZONE = """
    ALTER TABLE session ALTER "expiresAt" TYPE timestamptz USING "expiresAt" AT TIME ZONE 'UTC'
"""
FROM_ZONE = TO_ZONE.replace("timestamptz", "timestamp")


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("changes", [("", FROM_ZONE), (FROM_ZONE, TO_ZONE)], ids=["from", "to"])
async def test_an_end_that_gets_or_loses_its_time_zone_stays_the_same_instant(
    owners: str, servants: str, changes: tuple[str, str], zone: str
) -> None:
    before, meanwhile = changes
    name = owners.rpartition("/")[2]
    await run_sql(owners, f"ALTER DATABASE {name} SET timezone TO '{zone}'; {STOCK}; {before}")
    async with adas_client(servants) as client:
        await run_sql(owners, meanwhile)
        valid = await client.get("/tasks")
        await run_sql(
            owners, """UPDATE session SET "expiresAt" = "expiresAt" - interval '61 min'"""
        )
        ended = await client.get("/tasks")

    assert (valid.status_code, ended.status_code) == (200, 401)
