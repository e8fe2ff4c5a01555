"""``/health/ready`` says how Redis is, also while nobody spends from a budget."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis.asyncio import Redis

from api.app import create_app
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from tests.conftest import new_client, settings_of_tests
from tests.control import Control


@pytest.fixture
def separate_redis() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


@pytest.fixture
async def idle(separate_redis: Valkey, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that nobody else uses."""
    app = create_app(settings_of_tests(
        database_url=database_url, redis_url=separate_redis.url, rate_limit_enabled=True,
    ))  # fmt: skip
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client


async def seconds_until(client: httpx.AsyncClient, status: str) -> float:
    started = time.monotonic()
    async with asyncio.timeout(30):
        while (await client.get("/health/ready")).json()["redis"] != status:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.05)
    return time.monotonic() - started


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_a_lost_redis_is_reported_within_two_seconds_and_so_is_its_return(
    is_killed: bool, separate_redis: Valkey, idle: httpx.AsyncClient
) -> None:
    await seconds_until(idle, "ok")
    async with Control.running() as control:
        if is_killed:
            separate_redis.kill()
        else:
            separate_redis.process.send_signal(signal.SIGSTOP)
        gone = await seconds_until(idle, "degraded")
        if is_killed:
            separate_redis.start()
        else:
            separate_redis.process.send_signal(signal.SIGCONT)
        back = await seconds_until(idle, "ok")

    assert gone < control.bound(2.0)
    assert back < control.bound(3.0)


async def test_a_redis_that_keeps_budgets_and_delivers_no_hints_is_degraded(
    separate_redis: Valkey, database_url: str
) -> None:
    async with Redis.from_url(separate_redis.url) as admin:
        rules = ("on", ">password", "~*", "+@all", "-subscribe")
        await admin.execute_command("ACL", "SETUSER", "limited", *rules)
    url = f"redis://limited:password@127.0.0.1:{separate_redis.port}/0"
    app = create_app(settings_of_tests(
        database_url=database_url, redis_url=url, rate_limit_enabled=True,
    ))  # fmt: skip
    async with app.router.lifespan_context(app), new_client(app) as client:
        await seconds_until(client, "degraded")

        assert app.state.twofold.budget.redis == "ok"  # type: ignore[attr-defined]
