"""One budget per person: exact across instances, equal in both protocols, in every response."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from api.charges import Cost, Kind
from api.errors import BudgetExceeded
from api.rate_limit.budget import Budget, address_payer
from persistence.embedded.valkey import Valkey
from tests.conftest import HASH_SECRET, settings_of_tests
from tests.people import Person, sign_in
from tests.rate_limit.servers import instance
from tests.servers import served
from tests.surfaces import RestSurface


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
    responses = await asyncio.gather(
        *(shared[n % 2].get("/tasks?limit=1", headers=bearer(carol)) for n in range(400))
    )

    assert sorted(response.status_code for response in responses) == [200] * 100 + [429] * 300


async def test_exactly_thirty_of_a_hundred_and_twenty_writes_are_admitted(
    carol: Person, shared: list[httpx.AsyncClient], sql: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(
        *(
            shared[n % 2].post("/tasks", json={"title": f"task {n}"}, headers=bearer(carol))
            for n in range(120)
        )
    )

    assert sorted(response.status_code for response in responses) == [201] * 30 + [429] * 90
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
        responses = await asyncio.gather(*reads, *writes)

    statuses = Counter(response.status_code for response in responses)
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

    response = await shared[1].delete("/tasks/1", headers=bearer(carol))

    problem = response.json()
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit"] == f'"write";r=0;t={response.headers["Retry-After"]}'
    assert problem["retry_after"] == int(response.headers["Retry-After"])
    assert problem["detail"] == f"Too many requests. Retry after {problem['retry_after']} seconds."
    assert problem["rate_limit_info"] == {
        "limit": 30,
        "remaining": 0,
        "reset": int(response.headers["X-RateLimit-Reset"]),
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
async def test_every_response_to_a_charged_request_says_what_is_left(
    method: str, path: str, sent: dict[str, Any], status: int,
    carol: Person, shared: list[httpx.AsyncClient],
) -> None:  # fmt: skip
    kind, limit = ("read", 100) if method in ("GET", "HEAD") else ("write", 30)

    response = await shared[0].request(method, path, headers=bearer(carol), **sent)

    assert response.status_code == status
    assert response.headers["X-RateLimit-Limit"] == str(limit)
    assert response.headers["X-RateLimit-Remaining"] == str(limit - 1)
    assert 58 <= int(response.headers["X-RateLimit-Reset"]) - time.time() <= 61
    assert response.headers["RateLimit-Policy"] == f'"{kind}";q={limit};w=60'
    assert response.headers["RateLimit"] in [
        f'"{kind}";r={limit - 1};t={seconds}' for seconds in (59, 60)
    ]


async def test_what_is_left_only_falls(carol: Person, shared: list[httpx.AsyncClient]) -> None:
    responses = [await shared[n % 2].get("/tasks", headers=bearer(carol)) for n in range(5)]

    left = [int(response.headers["X-RateLimit-Remaining"]) for response in responses]
    assert left == [99, 98, 97, 96, 95]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("DELETE", "/tasks"), ("OPTIONS", "/tasks"), ("GET", "/health")],
)
async def test_what_is_free_costs_nothing(
    method: str, path: str, carol: Person, shared: list[httpx.AsyncClient], redis: Redis
) -> None:
    response = await shared[0].request(method, path, headers=bearer(carol))

    assert "X-RateLimit-Limit" not in response.headers
    assert await payers(redis) == []


async def test_a_stranger_is_401_until_the_address_is_spent(
    shared: list[httpx.AsyncClient],
) -> None:
    responses = [await shared[n % 2].post("/tasks", content=b"{") for n in range(32)]

    assert [response.status_code for response in responses] == [401] * 30 + [429] * 2


async def test_a_session_never_touches_the_budget_of_its_address(
    carol: Person, shared: list[httpx.AsyncClient], redis: Redis
) -> None:
    await asyncio.gather(*(shared[0].post("/tasks") for _ in range(35)))

    await carol.create_task("behind the same address")

    assert await redis.llen("twofold:write:user:carol") == 1


async def test_switched_off_nothing_is_counted(database_url: str, sql: asyncpg.Connection) -> None:
    async with instance(database_url, rate_limit_enabled=False) as client:
        dave = await sign_in(sql, RestSurface(client), "dave", HASH_SECRET)
        responses = [await client.get("/tasks", headers=bearer(dave)) for _ in range(105)]

    assert {response.status_code for response in responses} == {200}
    assert "X-RateLimit-Limit" not in responses[-1].headers


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


async def test_a_cost_above_the_limit_is_refused_for_good() -> None:
    budget = Budget(settings_of_tests(
        database_url="postgresql://nobody@localhost/nothing", rate_limit_enabled=True,
    ))  # fmt: skip

    with pytest.raises(Exception, match="Costs 101 reads; 100 are allowed in 60 s"):
        await budget.spend("user:ada", Cost(Kind.READ, 101))
    with pytest.raises(BudgetExceeded):
        [await budget.spend("user:ada", Cost(Kind.READ, 60)) for _ in range(2)]
