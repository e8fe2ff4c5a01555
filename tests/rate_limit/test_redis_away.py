"""Redis slow, stopped, full or gone: nobody waits for long, and the service returns to it."""

from __future__ import annotations

import asyncio
import signal
import time
from statistics import median
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from api.charges import Limit
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from persistence.embedded.valkey import Valkey
from tests.conftest import HASH_SECRET
from tests.control import GIVE_UP, Control
from tests.log_lines import records_of
from tests.people import sign_in
from tests.rate_limit.servers import instance, opened
from tests.surfaces import RestSurface

MINUTE = Limit(100, 60)


async def test_a_stopped_redis_delays_no_request_for_long(separate_redis: Valkey) -> None:
    async with (
        Control.running() as control,
        opened(separate_redis.url, waiting=0.3, probe_every=0.1) as windows,
    ):
        separate_redis.process.send_signal(signal.SIGSTOP)

        waits = [await timed(windows) for _ in range(20)]
        separate_redis.process.send_signal(signal.SIGCONT)

        assert max(waits) < control.bound(0.35)
        # The first three wait as long as they may, the others not at all.
        assert min(waits[:3]) > 0.25 > median(waits[3:])
        await until(lambda: not windows.is_degraded)


async def test_those_who_wait_together_are_released_together(separate_redis: Valkey) -> None:
    async with Control.running() as control, opened(separate_redis.url, waiting=0.5) as windows:
        separate_redis.process.send_signal(signal.SIGSTOP)
        early = [asyncio.create_task(timed(windows)) for _ in range(3)]
        await asyncio.sleep(0.4)
        late = [asyncio.create_task(timed(windows)) for _ in range(10)]

        await asyncio.gather(*early)
        waits = await asyncio.gather(*late)
        separate_redis.process.send_signal(signal.SIGCONT)

        assert max(waits) < control.bound(0.2)


async def test_hits_that_time_out_together_end_in_time_and_redis_is_used_again(
    separate_redis: Valkey,
) -> None:
    async with (
        Control.running() as control,
        opened(separate_redis.url, waiting=0.3, probe_every=0.1) as windows,
    ):
        separate_redis.process.send_signal(signal.SIGSTOP)

        waits = await asyncio.gather(*(timed(windows) for _ in range(30)))
        separate_redis.process.send_signal(signal.SIGCONT)

        assert max(waits) < control.bound(0.5)
        await until(lambda: not windows.is_degraded)


async def timed(windows: RedisSlidingWindow) -> float:
    began = time.perf_counter()
    assert (await windows.hit("ada", MINUTE, 1)).allowed
    return time.perf_counter() - began


async def until(done: Any, seconds: float = GIVE_UP) -> None:
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.02)


async def test_a_killed_redis_is_counted_around_and_found_again(
    separate_redis: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twofold.budget")
    async with opened(separate_redis.url, waiting=0.5, probe_every=0.1) as windows:
        separate_redis.kill()
        local = [(await windows.hit("ada", Limit(5, 60), 1)).allowed for _ in range(8)]
        separate_redis.start()
        await until(lambda: not windows.is_degraded)

        shared = await windows.hit("ada", Limit(5, 60), 1)

    assert local == [True] * 5 + [False] * 3
    assert shared.remaining == 4
    assert [record.levelname for record in records_of(caplog, "twofold.budget")] == [
        "WARNING",
        "INFO",
    ]


async def test_the_warning_says_why_and_where(
    separate_redis: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    place = separate_redis.url.partition("@")[2].partition("/")[0]
    separate_redis.process.send_signal(signal.SIGSTOP)
    async with opened(separate_redis.url, waiting=0.05):
        separate_redis.process.send_signal(signal.SIGCONT)
    separate_redis.kill()
    async with opened(separate_redis.url):
        pass

    hung, killed = (record.getMessage() for record in caplog.records)
    assert hung.startswith(
        f"Redis does not answer (TimeoutError: nothing within 0.05 s, at {place});"
    )
    assert killed.startswith("Redis does not answer (ConnectionRefusedError: ")
    assert killed.count(place) == 1


async def test_the_warning_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = (await reader.read(1000)).replace(b"\r\n", b" ")
        writer.write(b"-ERR denied: " + command + b" with args beginning with: 'sword'\r\n")
        writer.close()

    async with await asyncio.start_server(repeat, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"redis://ada:sword%26fish@127.0.0.1:{port}/0"):
            pass

    [warning] = [record.getMessage() for record in records_of(caplog, "twofold.budget")]
    assert "denied" in warning
    assert f"127.0.0.1:{port}" in warning
    assert "\n" not in warning
    assert len(warning) < 400
    assert "sword" not in warning
    assert "ada" not in warning


async def test_a_single_failure_does_not_open_the_breaker(
    separate_redis: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(separate_redis.url) as windows:
        monkeypatch.setattr(windows._connection, "_timeout", 0.0)
        await windows.hit("ada", MINUTE, 1)
        monkeypatch.undo()

        standing = await windows.hit("ada", MINUTE, 1)

        assert not windows.is_degraded
        # Whether the hit that was given up was counted, Redis alone knows.
        assert standing.remaining in (98, 99)


async def test_a_redis_without_memory_is_counted_around(separate_redis: Valkey) -> None:
    async with opened(separate_redis.url) as windows, Redis.from_url(separate_redis.url) as redis:
        await redis.config_set("maxmemory", 1)

        standings = [await windows.hit("ada", MINUTE, 1) for _ in range(5)]

        assert [standing.remaining for standing in standings] == [99, 98, 97, 96, 95]
        assert windows.is_degraded


async def test_a_redis_that_cannot_count_is_not_taken_back(
    separate_redis: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        opened(separate_redis.url, probe_every=0.02) as windows,
        Redis.from_url(separate_redis.url) as redis,
    ):
        await redis.replicaof("127.0.0.1", "1")

        for _ in range(50):
            await windows.hit("ada", MINUTE, 1)
            await asyncio.sleep(0.01)

        assert windows.is_degraded
        assert [record.levelname for record in records_of(caplog, "twofold.budget")] == ["WARNING"]


async def test_an_instance_starts_without_redis_and_says_so(
    database_url: str, separate_redis: Valkey, sql: asyncpg.Connection
) -> None:
    separate_redis.kill()
    async with instance(database_url, redis_url=separate_redis.url) as client:
        erin = await sign_in(sql, RestSurface(client), "erin", HASH_SECRET)

        await erin.create_task("nobody waits for Redis")
        ready = await client.get("/health/ready")

    assert ready.status_code == 200
    assert ready.json()["redis"] == "degraded"
