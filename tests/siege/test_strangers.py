"""What people without an account may cost once the budget of their address is spent."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.auth import lookup_queues, valid_tokens
from api.server import readiness
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import Person, sign_in
from tests.surfaces import GraphQLSurface, RestSurface
from tests.trips import TripCounter

ALLOWED = 20
ONE_READ = {"query": "{ viewer { userId } }"}


@pytest.fixture
async def app(trips: TripCounter) -> AsyncIterator[FastAPI]:
    """An app with budgets; every test's requests come from one address."""
    app = create_app(
        settings_of_tests(
            database_url=trips.url,
            rate_limit_enabled=True,
            rate_limit_read=f"{ALLOWED}/minute",
            sqlalchemy_pool_size=5,
        )
    )
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with new_client(app) as client:
        yield client


@pytest.fixture(params=["rest", "graphql"])
def at_graphql(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "graphql")


async def ask(client: httpx.AsyncClient, token: str, *, at_graphql: bool = False) -> httpx.Response:
    """One read."""
    headers = {"Authorization": f"Bearer {token}"}
    if at_graphql:
        return await client.post("/graphql", json=ONE_READ, headers=headers)
    return await client.get("/tasks", headers=headers)


async def flood(
    client: httpx.AsyncClient, times: int, *, at_graphql: bool = False
) -> list[httpx.Response]:
    """Well-formed tokens that nobody has, all at once."""
    tokens = [secrets.token_urlsafe(32) for _ in range(times)]
    return await asyncio.gather(*(ask(client, each, at_graphql=at_graphql) for each in tokens))


@pytest.fixture
async def spent(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client at an address without anything left to read."""
    for _ in range(ALLOWED + 1):
        last = await ask(client, secrets.token_urlsafe(32))
    assert last.status_code == 429
    return client


async def newcomer(client: httpx.AsyncClient, sql: asyncpg.Connection, name: str) -> Person:
    return await sign_in(sql, RestSurface(client), name, HASH_SECRET)


async def test_a_spent_address_costs_hardly_any_trips(
    client: httpx.AsyncClient, trips: TripCounter, at_graphql: bool
) -> None:
    before = trips.count
    first = await flood(client, ALLOWED, at_graphql=at_graphql)
    control = trips.count - before
    await ask(client, "x", at_graphql=at_graphql)
    before = trips.count

    then = await flood(client, 300, at_graphql=at_graphql)

    assert {response.status_code for response in first} == {401}
    assert control >= ALLOWED
    assert {response.status_code for response in then} == {429}
    assert all(0 < int(response.headers["Retry-After"]) <= 60 for response in then)
    assert {response.headers["X-RateLimit-Remaining"] for response in then} == {"0"}
    assert trips.count - before <= 1 + lookup_queues.MAX_WAITING_LOOKUPS


async def test_without_a_token_a_spent_address_costs_no_trip(
    spent: httpx.AsyncClient, trips: TripCounter
) -> None:
    before = trips.count

    responses = await asyncio.gather(*(spent.get("/tasks") for _ in range(100)))

    assert Counter(response.status_code for response in responses) == {429: 100}
    assert trips.count == before


async def test_a_token_that_was_valid_before_is_admitted_during_a_flood(
    client: httpx.AsyncClient, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_queues, "LOOKUP_INTERVAL", 5.0)
    monkeypatch.setattr(lookup_queues, "LOOKUP_TIMEOUT", 5.0)
    ada = await newcomer(client, sql, "ada")
    await ada.list_tasks()
    await flood(client, ALLOWED + 1)

    flooding = asyncio.create_task(flood(client, lookup_queues.MAX_WAITING_LOOKUPS))
    await asyncio.sleep(0)
    for _ in range(5):
        await ada.list_tasks()
    waiting = not flooding.done()
    await flooding

    # The control: strangers were waiting all the while.
    assert waiting


async def test_a_newcomer_behind_a_spent_address_gets_in_in_turn(
    spent: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    ada = await newcomer(spent, sql, "ada")
    strangers = asyncio.create_task(flood(spent, lookup_queues.MAX_WAITING_LOOKUPS // 2))
    await asyncio.sleep(0)

    assert (await ada.list_tasks()).tasks == []
    assert {response.status_code for response in await strangers} == {429}


async def test_a_token_that_was_good_and_is_so_no_more_waits_like_any(
    client: httpx.AsyncClient, sql: asyncpg.Connection, trips: TripCounter
) -> None:
    ada = await newcomer(client, sql, "ada")
    await ada.list_tasks()
    await sql.execute("UPDATE user_sessions SET revoked = true")
    await flood(client, ALLOWED + 1)
    await ask(client, ada.token)
    before = trips.count

    await asyncio.gather(*(ask(client, ada.token) for _ in range(100)))

    assert trips.count - before <= 1 + lookup_queues.MAX_WAITING_LOOKUPS


async def test_other_addresses_do_not_notice(spent: httpx.AsyncClient, app: FastAPI) -> None:
    elsewhere = httpx.ASGITransport(app, client=("192.0.2.9", 1))
    flooding = asyncio.create_task(flood(spent, 300))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://localhost") as other:
        await asyncio.sleep(0)
        responses = [await ask(other, "x") for _ in range(ALLOWED)]
    assert {response.status_code for response in responses} == {401}
    await flooding


async def test_a_flood_leaves_nothing_behind(
    spent: httpx.AsyncClient, app: FastAPI, sql: asyncpg.Connection
) -> None:
    lookups = app.state.twofold.authenticator._lookups
    flooding = [asyncio.create_task(ask(spent, str(number))) for number in range(50)]
    await until(lambda: len(lookups._queues) == 1)

    for request in flooding:
        request.cancel()
    await asyncio.gather(*flooding, return_exceptions=True)

    await until(lambda: not lookups._queues)
    assert (await (await newcomer(spent, sql, "ada")).list_tasks()).tasks == []


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


async def test_only_hashes_of_good_tokens_are_kept_and_few(
    client: httpx.AsyncClient, sql: asyncpg.Connection, app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(valid_tokens, "MAX_VALID_TOKENS", 3)
    people = [await newcomer(client, sql, f"person {number}") for number in range(5)]

    for person in people:
        await Person(person.user_id, person.token, GraphQLSurface(client)).list_tasks()

    valid = app.state.twofold.authenticator._valid_tokens
    assert [valid.digest(each.token.encode()) in valid for each in people] == [False] * 2 + [
        True
    ] * 3
    assert not any(person.token.encode() in valid._viewers for person in people)


# --- Readiness, which is free -------------------------------------------------------------


async def test_a_thousand_readiness_checks_share_one_probe(
    client: httpx.AsyncClient, trips: TripCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    before = trips.count
    await client.get("/health/ready")
    control = trips.count - before
    monkeypatch.undo()
    await asyncio.sleep(readiness.REUSE_SECONDS)
    before = trips.count

    responses = await asyncio.gather(*(client.get("/health/ready") for _ in range(1000)))

    assert Counter(response.status_code for response in responses) == {200: 1000}
    # Two, because a thousand take longer than a second on some machines; without it a thousand.
    assert control <= trips.count - before <= 5 * control


async def test_a_readiness_check_reports_a_drain_at_once(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    ready = await client.get("/health/ready")

    app.state.twofold.draining = True
    draining = await client.get("/health/ready")

    assert (ready.status_code, draining.status_code) == (200, 503)
    assert draining.json()["failing"] == "instance"


async def test_a_drain_that_begins_during_a_probe_is_reported_to_all_waiting_checks(
    client: httpx.AsyncClient, app: FastAPI, trips: TripCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    monkeypatch.setattr(trips, "delay", 0.2)
    asking = [asyncio.create_task(client.get("/health/ready")) for _ in range(20)]
    await asyncio.sleep(0.05)

    asking[0].cancel()
    app.state.twofold.draining = True
    responses = await asyncio.gather(*asking[1:])

    assert Counter(response.status_code for response in responses) == {503: 19}
