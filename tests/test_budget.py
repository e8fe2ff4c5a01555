"""One budget a person, on real Valkey: exact, shared, and never in the way."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from api.app import create_app
from api.charges import Cost, Kind, Limit
from api.errors import BudgetExceeded
from api.rate_limit.budget import Budget, address_payer
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from api.rate_limit.sliding_window import LocalSlidingWindow
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.redis_url import parse_redis_url
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import Person, sign_in
from tests.servers import served
from tests.surfaces import RestSurface

MINUTE = Limit(100, 60)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A look into Valkey behind the app's back; empty at the beginning."""
    async with Redis.from_url(valkey.url, decode_responses=True) as connection:
        await connection.flushall()
        yield connection


@pytest.fixture
async def windows(valkey: Valkey, redis: Redis) -> AsyncIterator[RedisSlidingWindow]:
    async with opened(valkey.url) as windows:
        yield windows


@asynccontextmanager
async def opened(
    url: str, waiting: float = 5.0, **options: Any
) -> AsyncIterator[RedisSlidingWindow]:
    windows = RedisSlidingWindow(parse_redis_url(url), waiting, **options)
    await windows.open()
    try:
        yield windows
    finally:
        await windows.close()


@asynccontextmanager
async def instance(database_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """One instance of the service, with budgets on."""
    defaults = {"database_url": database_url, "rate_limit_enabled": True}
    app: FastAPI = create_app(settings_of_tests(**(defaults | settings)))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client


# The window


async def test_a_hit_is_counted_whole_or_not_at_all(windows: RedisSlidingWindow) -> None:
    await windows.hit("ada", MINUTE, 98)

    refused = await windows.hit("ada", MINUTE, 3)
    fitting = await windows.hit("ada", MINUTE, 2)

    assert (refused.allowed, refused.remaining) == (False, 2)
    assert (fitting.allowed, fitting.remaining) == (True, 0)


@pytest.mark.parametrize("where", ["redis", "local"])
async def test_the_window_moves(where: str, windows: RedisSlidingWindow) -> None:
    second = Limit(2, 1)
    counted = {"redis": windows, "local": LocalSlidingWindow()}[where]
    await counted.hit("ada", second, 1)
    await asyncio.sleep(0.6)
    await counted.hit("ada", second, 1)
    full = await counted.hit("ada", second, 1)
    await asyncio.sleep(0.5)

    one_left = await counted.hit("ada", second, 1)
    none_left = await counted.hit("ada", second, 1)

    # A fixed window would have let two more through here, at its edge.
    assert (full.allowed, one_left.allowed, none_left.allowed) == (False, True, False)
    assert 0.3 < full.fits_in <= 0.4
    assert 0.9 < full.full_in <= 1.0


@pytest.mark.parametrize("where", ["redis", "local"])
async def test_fits_in_is_when_this_cost_fits(where: str, windows: RedisSlidingWindow) -> None:
    second = Limit(3, 1)
    counted = {"redis": windows, "local": LocalSlidingWindow()}[where]
    await counted.hit("ada", second, 1)
    await asyncio.sleep(0.5)
    await counted.hit("ada", second, 2)

    of_one = await counted.hit("ada", second, 1)
    of_three = await counted.hit("ada", second, 3)

    assert of_one.fits_in == pytest.approx(0.5, abs=0.1)
    assert of_three.fits_in == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("where", ["redis", "local"])
async def test_looking_costs_nothing(where: str, windows: RedisSlidingWindow) -> None:
    counted = {"redis": windows, "local": LocalSlidingWindow()}[where]
    await counted.hit("ada", MINUTE, 7)

    looks = [await counted.hit("ada", MINUTE, 0) for _ in range(3)]

    assert [look.remaining for look in looks] == [93, 93, 93]


async def test_a_hit_is_one_round_trip(windows: RedisSlidingWindow, redis: Redis) -> None:
    await windows.hit("ada", MINUTE, 3)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    commands = (await redis.info("stats"))["total_commands_processed"]

    for _ in range(10):
        await windows.hit("ada", MINUTE, 3)

    after = await redis.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - before == 10
    assert "cmdstat_eval" not in after
    assert (await redis.info("stats"))["total_commands_processed"] > commands


async def test_keys_expire(windows: RedisSlidingWindow, redis: Redis) -> None:
    await windows.hit("ada", MINUTE, 1)

    assert 60_000 < await redis.pttl("ada") <= 61_000


async def test_redis_clock_decides_not_the_instances(
    windows: RedisSlidingWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    await windows.hit("ada", MINUTE, 60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    standing = await windows.hit("ada", MINUTE, 60)

    assert not standing.allowed
    assert standing.now == pytest.approx(real(), abs=5)


async def test_local_windows_forget_the_person_who_was_hit_least_recently() -> None:
    windows = LocalSlidingWindow(max_viewers=2)
    for key in ("ada", "bob", "eve"):
        await windows.hit(key, MINUTE, 10)

    eve = await windows.hit("eve", MINUTE, 0)
    ada = await windows.hit("ada", MINUTE, 0)

    assert (eve.remaining, ada.remaining) == (90, 100)


# Whose budget


async def payers(redis: Redis) -> list[str]:
    """The keys in Redis but those that every instance hits at its start."""
    return [key for key in await redis.keys("*") if not key.endswith(":probe")]


async def test_no_id_escapes_its_key(valkey: Valkey, redis: Redis) -> None:
    budget = Budget(settings_of_tests(
        database_url="postgresql://nobody@localhost/nothing",
        redis_url=valkey.url, rate_limit_enabled=True,
    ))  # fmt: skip
    odd = ["ada", "ada:read", "ip:127.0.0.1", "{x}", "a\r\nFLUSHALL\r\n", "*", "", "ü\x00"]
    await budget.open()

    charges = [await budget.spend(f"user:{name}", Cost(Kind.READ)) for name in odd]
    await budget.close()

    assert [charge.window.remaining for charge in charges if charge] == [99] * len(odd)
    assert len(await payers(redis)) == len(odd)


@pytest.mark.parametrize(
    ("address", "payer"),
    [
        ("192.0.2.7", "ip:192.0.2.7"),
        ("::ffff:192.0.2.7", "ip:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "ip:2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "ip:2001:db8:1:3::/64"),
        ("fe80::1%eth0", "ip:fe80::/64"),
        ("not an address", "ip:not an address"),
    ],
)
def test_an_address_pays_as_one_subscriber(address: str, payer: str) -> None:
    assert address_payer({"client": (address, 1)}) == payer


# The door


@pytest.fixture
async def shared(
    database_url: str, valkey: Valkey, redis: Redis
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two instances with one Valkey, patient enough for a busy machine."""
    settings = {"redis_url": valkey.url, "rate_limit_timeout_ms": 10_000}
    async with (
        instance(database_url, **settings) as one,
        instance(database_url, **settings) as other,
    ):
        yield [one, other]


@pytest.fixture
async def carol(shared: list[httpx.AsyncClient], sql: asyncpg.Connection) -> Person:
    """Someone at the first of the two instances."""
    return await sign_in(sql, RestSurface(shared[0]), "carol", HASH_SECRET)


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


async def test_exactly_a_hundred_of_four_hundred_reads_are_admitted(
    carol: Person, shared: list[httpx.AsyncClient]
) -> None:
    answers = await asyncio.gather(
        *(shared[n % 2].get("/tasks?limit=1", headers=bearer(carol)) for n in range(400))
    )

    assert sorted(answer.status_code for answer in answers) == [200] * 100 + [429] * 300


async def test_exactly_thirty_of_a_hundred_and_twenty_writes_are_admitted(
    carol: Person, shared: list[httpx.AsyncClient], sql: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(
        *(
            shared[n % 2].post("/tasks", json={"title": f"task {n}"}, headers=bearer(carol))
            for n in range(120)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [201] * 30 + [429] * 90
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 30


@pytest.mark.slow
async def test_the_budget_is_exact_across_processes(
    database_url: str, valkey: Valkey, redis: Redis, sql: asyncpg.Connection
) -> None:
    environment = {
        "RATE_LIMIT_ENABLED": "true",
        "REDIS_URL": valkey.url,
        "RATE_LIMIT_TIMEOUT_MS": "10000",
    }
    async with (
        served(database_url, **environment) as (one, _),
        served(database_url, **environment) as (other, _),
    ):
        frank = await sign_in(sql, RestSurface(one), "frank", HASH_SECRET)
        reads = [[one, other][n % 2].get("/tasks", headers=bearer(frank)) for n in range(400)]
        writes = [
            [one, other][n % 2].post("/tasks", json={"title": "x"}, headers=bearer(frank))
            for n in range(120)
        ]
        answers = await asyncio.gather(*reads, *writes)

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: 100, 201: 30, 429: 300 + 90}


async def test_a_forged_address_changes_nothing(
    database_url: str, valkey: Valkey, redis: Redis
) -> None:
    environment = {"RATE_LIMIT_ENABLED": "true", "REDIS_URL": valkey.url}
    async with served(database_url, **environment) as (client, _):
        for n in range(3):
            await client.get("/tasks", headers={"X-Forwarded-For": f"192.0.2.{n}"})

    assert await payers(redis) == ["twofold:read:ip:127.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
async def test_a_trusted_proxy_names_the_rightmost_hop_that_is_not_one(
    host: str, database_url: str, valkey: Valkey, redis: Redis
) -> None:
    environment = {
        "HOST": host,
        "RATE_LIMIT_ENABLED": "true",
        "REDIS_URL": valkey.url,
        "FORWARDED_ALLOW_IPS": "127.0.0.1,198.51.100.1",
    }
    async with served(database_url, **environment) as (client, _):
        hops = "203.0.113.66, 192.0.2.7, 198.51.100.1"
        await client.get("/tasks", headers={"X-Forwarded-For": hops})

    assert await payers(redis) == ["twofold:read:ip:192.0.2.7"]


async def test_reads_and_writes_are_counted_apart(carol: Person) -> None:
    task = await carol.create_task("water the plants")

    with_writes_spent = await spend_all_writes(carol)

    assert with_writes_spent == 29
    assert await carol.get_task(task.id) == task


async def spend_all_writes(person: Person) -> int:
    written = 0
    with person.refused("rate_limit_exceeded"):
        while True:
            await person.create_task("one more")
            written += 1
    return written


async def test_an_exhausted_budget_says_when_to_come_back(
    carol: Person, shared: list[httpx.AsyncClient]
) -> None:
    await spend_all_writes(carol)

    answer = await shared[1].delete("/tasks/1", headers=bearer(carol))

    problem = answer.json()
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit"] == f'"write";r=0;t={answer.headers["Retry-After"]}'
    assert problem["retry_after"] == int(answer.headers["Retry-After"])
    assert problem["detail"] == f"Too many requests. Retry after {problem['retry_after']} seconds."
    assert problem["rate_limit_info"] == {
        "limit": 30,
        "remaining": 0,
        "reset": int(answer.headers["X-RateLimit-Reset"]),
        "window_seconds": 60,
    }


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/tasks", {}, 200),
        ("HEAD", "/tasks", {}, 200),
        ("GET", "/tasks?limit=0", {}, 400),
        ("GET", "/tasks/999", {}, 404),
        ("POST", "/tasks", {"json": {"title": ""}}, 400),
        ("POST", "/tasks", {"content": b"not json"}, 415),
        ("DELETE", "/tasks/999", {}, 404),
    ],
)
async def test_every_answer_to_a_charged_request_says_what_is_left(
    method: str, path: str, sent: dict[str, Any], status: int,
    carol: Person, shared: list[httpx.AsyncClient],
) -> None:  # fmt: skip
    kind, limit = ("read", 100) if method in ("GET", "HEAD") else ("write", 30)

    answer = await shared[0].request(method, path, headers=bearer(carol), **sent)

    assert answer.status_code == status
    assert answer.headers["X-RateLimit-Limit"] == str(limit)
    assert answer.headers["X-RateLimit-Remaining"] == str(limit - 1)
    assert 58 <= int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 61
    assert answer.headers["RateLimit-Policy"] == f'"{kind}";q={limit};w=60'
    assert answer.headers["RateLimit"] in [
        f'"{kind}";r={limit - 1};t={seconds}' for seconds in (59, 60)
    ]


async def test_what_is_left_only_falls(carol: Person, shared: list[httpx.AsyncClient]) -> None:
    answers = [await shared[n % 2].get("/tasks", headers=bearer(carol)) for n in range(5)]

    left = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert left == [99, 98, 97, 96, 95]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("DELETE", "/tasks"), ("OPTIONS", "/tasks"), ("GET", "/health")],
)
async def test_what_is_free_costs_nothing(
    method: str, path: str, carol: Person, shared: list[httpx.AsyncClient], redis: Redis
) -> None:
    answer = await shared[0].request(method, path, headers=bearer(carol))

    assert "X-RateLimit-Limit" not in answer.headers
    assert await payers(redis) == []


async def test_a_stranger_is_401_until_the_address_is_spent(
    shared: list[httpx.AsyncClient],
) -> None:
    answers = [await shared[n % 2].post("/tasks", content=b"{") for n in range(32)]

    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 2


async def test_a_session_never_touches_the_budget_of_its_address(
    carol: Person, shared: list[httpx.AsyncClient], redis: Redis
) -> None:
    await asyncio.gather(*(shared[0].post("/tasks") for _ in range(35)))

    await carol.create_task("behind the same address")

    assert await redis.llen("twofold:write:user:carol") == 1


async def test_switched_off_nothing_is_counted(database_url: str, sql: asyncpg.Connection) -> None:
    async with instance(database_url, rate_limit_enabled=False) as client:
        dave = await sign_in(sql, RestSurface(client), "dave", HASH_SECRET)
        answers = [await client.get("/tasks", headers=bearer(dave)) for _ in range(105)]

    assert {answer.status_code for answer in answers} == {200}
    assert "X-RateLimit-Limit" not in answers[-1].headers


async def test_variables_of_slowapi_change_nothing(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slowapi's own object reads these from the environment."""
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    for name in ("LIMIT", "REMAINING", "RESET"):
        monkeypatch.setenv(f"RATELIMIT_HEADER_{name}", f"X-Renamed-{name}")
    async with instance(database_url, rate_limit_read="1/minute") as client:
        dave = await sign_in(sql, RestSurface(client), "dave", HASH_SECRET)
        responses = [await client.get("/tasks", headers=bearer(dave)) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 429]
    for response in responses:
        assert response.headers["X-RateLimit-Limit"] == "1"
        assert response.headers["X-RateLimit-Remaining"] == "0"
        assert "X-RateLimit-Reset" in response.headers
        assert not any(name.startswith("x-renamed") for name in response.headers)


# Redis away


@pytest.fixture
def lonely() -> Iterator[Valkey]:
    """A Valkey of the test's own, to be ill-treated."""
    with embedded_valkey() as server:
        yield server


async def test_a_stopped_redis_holds_up_nobody_for_long(lonely: Valkey) -> None:
    async with opened(lonely.url, waiting=0.3, probe_every=0.1) as windows:
        lonely.process.send_signal(signal.SIGSTOP)

        waits = [await timed(windows) for _ in range(20)]
        lonely.process.send_signal(signal.SIGCONT)

        assert max(waits) < 0.45
        assert sum(wait > 0.1 for wait in waits) == 3
        await until(lambda: not windows.is_degraded)


async def test_those_who_wait_together_are_released_together(lonely: Valkey) -> None:
    async with opened(lonely.url, waiting=0.5) as windows:
        lonely.process.send_signal(signal.SIGSTOP)
        early = [asyncio.create_task(timed(windows)) for _ in range(3)]
        await asyncio.sleep(0.4)
        late = [asyncio.create_task(timed(windows)) for _ in range(10)]

        await asyncio.gather(*early)
        waits = await asyncio.gather(*late)
        lonely.process.send_signal(signal.SIGCONT)

        assert max(waits) < 0.3


async def test_time_that_runs_out_for_all_at_once_is_nobodys_error(lonely: Valkey) -> None:
    async with opened(lonely.url, waiting=0.3, probe_every=0.1) as windows:
        lonely.process.send_signal(signal.SIGSTOP)

        waits = await asyncio.gather(*(timed(windows) for _ in range(30)))
        lonely.process.send_signal(signal.SIGCONT)

        assert max(waits) < 1
        await until(lambda: not windows.is_degraded)


async def test_a_rush_takes_turns(windows: RedisSlidingWindow) -> None:
    many = Limit(1000, 60)

    standings = await asyncio.gather(*(windows.hit("ada", many, 1) for _ in range(1000)))

    assert sorted(standing.remaining for standing in standings) == list(range(1000))
    assert not windows.is_degraded


async def timed(windows: RedisSlidingWindow) -> float:
    began = time.perf_counter()
    assert (await windows.hit("ada", MINUTE, 1)).allowed
    return time.perf_counter() - began


async def until(done: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not done():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.02)


async def test_a_killed_redis_is_counted_around_and_found_again(
    lonely: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twofold.budget")
    async with opened(lonely.url, waiting=0.5, probe_every=0.1) as windows:
        lonely.kill()
        local = [(await windows.hit("ada", Limit(5, 60), 1)).allowed for _ in range(8)]
        lonely.start()
        await until(lambda: not windows.is_degraded)

        shared = await windows.hit("ada", Limit(5, 60), 1)

    assert local == [True] * 5 + [False] * 3
    assert shared.remaining == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_the_warning_says_why_and_where(
    lonely: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    place = lonely.url.partition("@")[2].partition("/")[0]
    lonely.process.send_signal(signal.SIGSTOP)
    async with opened(lonely.url, waiting=0.05):
        lonely.process.send_signal(signal.SIGCONT)
    lonely.kill()
    async with opened(lonely.url):
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

    [warning] = [record.getMessage() for record in caplog.records]
    assert "denied" in warning
    assert f"127.0.0.1:{port}" in warning
    assert "\n" not in warning
    assert len(warning) < 400
    assert "sword" not in warning
    assert "ada" not in warning


async def test_a_single_failure_does_not_open_the_breaker(
    lonely: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(lonely.url) as windows:
        monkeypatch.setattr(windows._connection, "_timeout", 0.0)
        await windows.hit("ada", MINUTE, 1)
        monkeypatch.undo()

        standing = await windows.hit("ada", MINUTE, 1)

        assert not windows.is_degraded
        # Whether the hit that was given up was counted, Redis alone knows.
        assert standing.remaining in (98, 99)


async def test_a_redis_without_memory_is_counted_around(lonely: Valkey) -> None:
    async with opened(lonely.url) as windows, Redis.from_url(lonely.url) as redis:
        await redis.config_set("maxmemory", 1)

        standings = [await windows.hit("ada", MINUTE, 1) for _ in range(5)]

        assert [standing.remaining for standing in standings] == [99, 98, 97, 96, 95]
        assert windows.is_degraded


async def test_a_redis_that_cannot_count_is_not_taken_back(
    lonely: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(lonely.url, probe_every=0.02) as windows, Redis.from_url(lonely.url) as redis:
        await redis.replicaof("127.0.0.1", "1")

        for _ in range(50):
            await windows.hit("ada", MINUTE, 1)
            await asyncio.sleep(0.01)

        assert windows.is_degraded
        assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_an_emptied_script_cache_costs_one_more_trip_and_no_failure(
    windows: RedisSlidingWindow, redis: Redis
) -> None:
    await redis.script_flush()

    standing = await windows.hit("ada", MINUTE, 1)

    assert standing.remaining == 99
    assert not windows.is_degraded


async def test_an_instance_starts_without_redis_and_says_so(
    database_url: str, lonely: Valkey, sql: asyncpg.Connection
) -> None:
    lonely.kill()
    async with instance(database_url, redis_url=lonely.url) as client:
        erin = await sign_in(sql, RestSurface(client), "erin", HASH_SECRET)

        await erin.create_task("nobody waits for Redis")
        ready = await client.get("/health/ready")

    assert ready.status_code == 200
    assert ready.json()["redis"] == "degraded"


async def test_a_cost_above_the_limit_is_refused_for_good() -> None:
    budget = Budget(settings_of_tests(
        database_url="postgresql://nobody@localhost/nothing", rate_limit_enabled=True,
    ))  # fmt: skip

    with pytest.raises(Exception, match="Costs 101 reads; 100 are allowed in 60 s"):
        await budget.spend("user:ada", Cost(Kind.READ, 101))
    with pytest.raises(BudgetExceeded):
        [await budget.spend("user:ada", Cost(Kind.READ, 60)) for _ in range(2)]
