"""Health and readiness, and what makes an instance not ready."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

import api.state
from persistence.migrations import upgrade
from tests import conftest
from tests.http.environments import Client


async def test_health_says_ok(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", response.json()["timestamp"])


async def test_ready_says_how_each_part_is(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    parts = {name: value for name, value in response.json().items() if name != "timestamp"}
    assert (response.status_code, parts) == (200, {"status": "ok", "database": "ok"})


@pytest.fixture
async def untouched(postgres: Any, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database of the auth server's, into which nothing was migrated yet."""
    name = "edge"
    url = await conftest.new_database(postgres, name)
    await conftest.run_sql(url, conftest.SESSION_TABLES)
    yield url
    await conftest.run_sql(postgres.url("postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')


BEHIND = "CREATE TABLE twofold_alembic_version (version_num varchar(32) PRIMARY KEY)"
AHEAD = "INSERT INTO twofold_alembic_version VALUES ('9999_from_the_future')"
NO_SESSIONS = "DROP TABLE user_sessions"


@pytest.mark.parametrize(("state", "failing"), [("SELECT 1", "schema"), (BEHIND, "schema")])
async def test_an_instance_is_not_ready_for_a_schema_that_is_behind(
    state: str, failing: str, untouched: str, served: Callable[..., Client]
) -> None:
    await conftest.run_sql(untouched, state)

    async with served(database_url=untouched) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()["type"]) == (503, "service_unavailable")
    assert response.json()["failing"] == failing
    assert response.headers["Retry-After"] == "2"


async def test_an_instance_is_ready_for_a_schema_that_is_ahead(
    untouched: str, served: Callable[..., Client]
) -> None:
    await asyncio.to_thread(upgrade, untouched)
    await conftest.run_sql(untouched, "DELETE FROM twofold_alembic_version")
    await conftest.run_sql(untouched, AHEAD)

    async with served(database_url=untouched) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 200


async def test_without_a_database_an_instance_lives_and_is_not_ready(
    served: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.state, "PROBE_SECONDS", 0.02)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"

    async with served(database_url=nowhere) as client:
        health, ready = await client.get("/health"), await client.get("/health/ready")

    assert health.status_code == 200
    assert (ready.status_code, ready.json()["failing"]) == (503, "database")


async def test_an_instance_that_drains_is_not_ready_and_serves_on(
    served: Callable[..., Client],
) -> None:
    async with served() as client:
        client.app.state.twofold.draining = True  # type: ignore[attr-defined]
        health, ready = await client.get("/health"), await client.get("/health/ready")

    assert health.status_code == 200
    assert (ready.status_code, ready.json()["failing"]) == (503, "instance")


async def test_without_readable_sessions_an_instance_is_not_ready_and_says_503(
    untouched: str, served: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app._require_usable_tables", _not_now)
    await conftest.run_sql(untouched, f"{BEHIND}; {AHEAD}; {NO_SESSIONS}")

    async with served(database_url=untouched) as client:
        ready = await client.get("/health/ready")
        tasks = await client.get("/tasks", headers={"Authorization": "Bearer x"})

    assert (ready.status_code, ready.json()["failing"]) == (503, "sessions")
    assert "user_sessions" not in ready.text
    assert (tasks.status_code, tasks.json()["type"]) == (503, "service_unavailable")


async def _not_now(state: object) -> None:
    """As when the database was away while the instance started."""
