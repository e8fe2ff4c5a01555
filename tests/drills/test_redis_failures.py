"""What clients see when Redis fails under the running service: nothing but a short delay.

No request fails, each is charged to a budget, and the log says once what happened. See also
``tests.drills.test_database_failures`` for what holds in every drill.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from persistence.embedded.postgres import Postgres
from persistence.embedded.valkey import Valkey
from tests.control import GIVE_UP
from tests.drills.service import Service, down, stopped
from tests.drills.workload import MARGIN, Workload

pytestmark = pytest.mark.timeout(600)

RECOVERY = 5.0
"""Seconds after Redis is back in which it is used again."""

TIMEOUT = 0.3
"""Seconds that a request of ``limited`` waits for Redis."""


@asynccontextmanager
async def redis_drill(service: Service, *, warnings: int = 1) -> AsyncIterator[Workload]:
    """Whatever happens to Redis in the block: no request fails or waits long, all are charged.

    Args:
        warnings: how often the log may say that Redis does not answer.
    """
    before = len(service.log.read_text())
    async with service.drill() as workload:
        yield workload
        recovered = await until_redis_is(service, "ok")
        await workload.until_ok()
    print(f"Redis ok after {recovered:.2f} s")
    responses = workload.select()
    assert recovered < workload.control.bound(RECOVERY)
    assert not workload.select(ok=False)
    assert max(each.seconds for each in responses) < workload.control.bound(TIMEOUT + MARGIN)
    assert all(response.remaining is not None for response in responses)
    assert service.log.read_text()[before:].count("Redis does not answer") <= warnings


async def until_redis_is(service: Service, state: str) -> float:
    """Wait until readiness reports this state of Redis. Returns how many seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(GIVE_UP):
        while await redis_of(service) != state:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def redis_of(service: Service) -> str | None:
    """The state of Redis as readiness reports it."""
    ready = await service.get("/health/ready")
    state: str | None = ready.body.get("redis")
    return state


async def test_no_request_fails_when_redis_restarts(limited: Service, valkey: Valkey) -> None:
    async with redis_drill(limited):
        await asyncio.to_thread(valkey.restart)


@pytest.mark.drill
async def test_every_request_is_counted_when_redis_crashes(
    limited: Service, valkey: Valkey
) -> None:
    async with redis_drill(limited), down(valkey, 0.5):
        await until_redis_is(limited, "degraded")


async def test_no_request_waits_long_for_a_stopped_redis(limited: Service, valkey: Valkey) -> None:
    async with redis_drill(limited):
        with stopped(valkey.process):
            # Sent at the same time, so that they time out at the same time.
            rush = await asyncio.gather(*(limited.get("/tasks") for _ in range(20)))
            await until_redis_is(limited, "degraded")

    assert {response.verdict for response in rush} == {"ok"}


@pytest.mark.drill
async def test_every_request_is_counted_when_redis_answers_errors(
    limited: Service, valkey: Valkey
) -> None:
    # Each is noticed after three failures, and perhaps a second time after the first probe.
    async with redis_drill(limited, warnings=6), Redis.from_url(valkey.url) as redis:
        await redis.config_set("maxmemory", 1)
        await until_redis_is(limited, "degraded")
        await redis.config_set("maxmemory", 0)
        await until_redis_is(limited, "ok")

        await redis.replicaof("127.0.0.1", "1")
        await until_redis_is(limited, "degraded")
        await redis.replicaof("NO", "ONE")
        await until_redis_is(limited, "ok")

        await redis.config_set("requirepass", "another")
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until_redis_is(limited, "degraded")
        await redis.config_set("requirepass", valkey.password)


@pytest.mark.parametrize(
    "reply",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"HTTP/1.1 400\r\n\r\n",
        b"",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*5\r\n:1\r\n:1\r\n+x\r\n+y\r\n+z\r\n",
    ],
)
@pytest.mark.drill
async def test_every_request_is_counted_when_another_server_answers_in_place_of_redis(
    limited: Service, valkey: Valkey, reply: bytes
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while (commands := await reader.read(65536)) and reply:
                writer.write(reply * commands.count(b"\r\n*") + reply)
        writer.close()

    async with redis_drill(limited), down(valkey, 1):
        other = await asyncio.start_server(respond, "127.0.0.1", valkey.port)
        async with other:
            await until_redis_is(limited, "degraded")
            await asyncio.sleep(1.5)


@pytest.mark.drill
async def test_every_request_succeeds_again_after_both_servers_crashed(
    limited: Service, server: Postgres, valkey: Valkey
) -> None:
    async with limited.drill() as workload:
        async with down(server, 0.5), down(valkey, 0.5):
            await asyncio.sleep(0.2)
        recovered = await workload.until_ok()
        redis = await until_redis_is(limited, "ok")

    assert max(recovered, redis) < workload.control.bound(RECOVERY)
