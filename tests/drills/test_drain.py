"""An instance stops under load, and no request fails."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from signal import SIGINT, SIGTERM, Signals

import asyncpg
import httpx
import pytest

from api.settings import Settings
from tests.conftest import settings_of_tests
from tests.control import GIVE_UP, Control
from tests.drills.instances import UVICORN, WORKERS, new_connections, processes_of
from tests.drills.service import locked_tasks
from tests.operations import Api
from tests.people import sign_in
from tests.servers import COMMAND, served
from tests.surfaces import ApiError, GraphQLSurface, RestSurface

pytestmark = pytest.mark.timeout(600)


DRAIN = 1.4
"""Seconds of drain in the tests that wait for its end."""
LONG_DRAIN = "300"
"""Seconds of drain in the tests that end it early: no wait here is so long."""


@pytest.mark.parametrize(
    ("command", "signal_delay"),
    [
        pytest.param(COMMAND, 0.5, id="twofold serve"),
        pytest.param(
            (*COMMAND, *WORKERS), 0.5, marks=pytest.mark.drill, id="twofold serve --workers"
        ),
        pytest.param(UVICORN, 0.5, marks=pytest.mark.drill, id="uvicorn"),
        # uvicorn's parent process handles signals twice a second, ours at once.
        pytest.param((*UVICORN, *WORKERS), 1.0, marks=pytest.mark.drill, id="uvicorn --workers"),
    ],
)
async def test_no_request_fails_when_an_instance_stops(
    command: tuple[str, ...], signal_delay: float, database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url, *command, DRAIN_SECONDS=str(DRAIN)) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada")
        both = (ada, replace(ada, surface=GraphQLSurface(client)))
        async with (
            Control.running() as control,
            new_connections(client, ada.token) as another,
            asyncio.TaskGroup() as group,
            locked_tasks(database_url),
        ):
            slow = [group.create_task(each.create_task("slow")) for each in both]
            await until_waiting(sql, 2)
            process.terminate()
            terminated = time.monotonic()

            unready, since = await until_unready(another)
            alive = await another.get("/health")
            viewer = await another.get("/graphql?query={viewer{userId}}")
            await require_answers(another, until=terminated + DRAIN)
            await asyncio.sleep(1)
            is_waiting = process.returncode is None and not any(each.done() for each in slow)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert since - terminated < control.bound(signal_delay)
    assert (unready["type"], unready["detail"]) == (
        "service_unavailable",
        "Not ready: instance: it is draining",
    )
    assert [response.status_code for response in (alive, viewer)] == [200, 200]
    assert [response.headers["Connection"] for response in (alive, viewer)] == ["close", "close"]
    assert is_waiting
    assert [each.result().title for each in slow] == ["slow", "slow"]
    assert code == 0


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(SIGTERM, (), id="SIGTERM"),
        pytest.param(SIGINT, (), id="SIGINT"),
        pytest.param(SIGTERM, WORKERS, id="SIGTERM, workers", marks=pytest.mark.drill),
    ],
)
@pytest.mark.drill
async def test_a_second_signal_ends_the_drain(
    number: Signals, workers: tuple[str, ...], database_url: str
) -> None:
    async with served(database_url, *COMMAND, *workers, DRAIN_SECONDS=LONG_DRAIN) as (
        client,
        process,
    ):
        process.terminate()
        async with new_connections(client) as another:
            await until_unready(another)
        # A service manager signals all processes, and a parent then signals its workers again.
        for each in processes_of(process):
            each.terminate()
        await asyncio.sleep(1.2)
        is_draining = process.returncode is None
        process.send_signal(number)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert is_draining
    assert code == 0


@pytest.mark.drill
async def test_a_second_ctrl_c_is_503_to_requests_that_still_wait(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada")
        both = (ada, replace(ada, surface=GraphQLSurface(client)))
        async with locked_tasks(database_url):
            creating = [each.create_task("never") for each in both]
            responses = asyncio.gather(*creating, return_exceptions=True)
            await until_waiting(sql, 2)
            for _ in range(2):
                process.send_signal(SIGINT)
                await asyncio.sleep(0.3)
            errors = [error for error in await responses if isinstance(error, ApiError)]
            await process.wait()

    assert [(error.api, error.status, error.problem["type"]) for error in errors] == [
        (Api.REST, 503, "service_unavailable"),
        (Api.GRAPHQL, 503, "service_unavailable"),
    ]
    assert not await sql.fetchval("SELECT count(*) FROM tasks WHERE title = 'never'")


async def test_ctrl_c_does_not_drain(database_url: str) -> None:
    async with served(database_url, DRAIN_SECONDS=LONG_DRAIN) as (_, process):
        process.send_signal(SIGINT)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert code == 0


async def test_dev_stops_at_once(database_url: str) -> None:
    dev = (sys.executable, "-m", "api.cli", "dev")
    async with served(database_url, *dev, DRAIN_SECONDS=LONG_DRAIN) as (_, process):
        process.terminate()
        await asyncio.wait_for(process.wait(), GIVE_UP)


def test_only_production_drains_by_default() -> None:
    production = {
        "environment": "production",
        "redis_url": "redis://127.0.0.1",
        "cors_origins": "https://app.example.com",
    }

    def drain(**values: object) -> float:
        settings: Settings = settings_of_tests(database_url="postgresql://127.0.0.1/x", **values)
        return settings.drain

    assert drain() == 0
    assert drain(**production) == 5
    assert drain(**production, drain_seconds=0) == 0
    for invalid in (-1, 301, float("nan")):
        with pytest.raises(ValueError, match="drain_seconds"):
            drain(drain_seconds=invalid)


async def until_waiting(sql: asyncpg.Connection, requests: int) -> None:
    """Wait until so many requests wait for the table of tasks."""
    locks = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass"
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(locks) < requests:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def until_unready(another: httpx.AsyncClient) -> tuple[dict[str, str], float]:
    """Wait until every process reports that it is not ready.

    Returns:
        The report, and the time of the first one after the last that was ready.
    """
    reports, since = 0, 0.0
    async with asyncio.timeout(GIVE_UP):
        while reports < 8:
            response = await another.get("/health/ready")
            reports = reports + 1 if response.status_code == 503 else 0
            since = time.monotonic() if reports <= 1 else since
    return response.json(), since


async def require_answers(another: httpx.AsyncClient, until: float) -> None:
    """Require that every request succeeds and closes its connection, until this time."""
    while time.monotonic() < until:
        try:
            response = await another.get("/health")
        except httpx.TransportError:
            # After that time a request may fail, and the machine may have made this one late.
            if time.monotonic() < until:
                raise
            return
        assert (response.status_code, response.headers["Connection"]) == (200, "close")
        await asyncio.sleep(0.05)
