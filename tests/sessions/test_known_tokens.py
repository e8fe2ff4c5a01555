"""A token that was valid before is looked up together with the first read, and no less strictly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.rate_limit.response_slots import MAX_SLOTS
from persistence import database, pool
from persistence.connection import connect
from persistence.pool import UNIDENTIFIED
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.operations import Task
from tests.people import Person, sign_in, token_hash
from tests.pools import holding
from tests.sessions.layouts import LAYOUTS, NAIVE, NewService, Service
from tests.surfaces import SURFACES, ApiError, Surface
from tests.trips import TripCounter

LIMIT = 20


@pytest.mark.parametrize("surface_of", SURFACES.values(), ids=[each.value for each in SURFACES])
async def test_a_read_asks_a_database_that_is_away_once(
    surface_of: Callable[[httpx.AsyncClient], Surface],
    database_url: str,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = 0

    async def count_and_connect(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await connect(*arguments, **options)

    async with AsyncExitStack() as stack:
        async with TripCounter.before(database_url) as proxy:
            app = create_app(settings_of_tests(database_url=proxy.url))
            await stack.enter_async_context(app.router.lifespan_context(app))
            client = await stack.enter_async_context(new_client(app))
            ada = await sign_in(sql, surface_of(client), "ada", HASH_SECRET)
            await ada.list_tasks(limit=1)
        monkeypatch.setattr(database, "RETRY_FOR", 0)
        monkeypatch.setattr(pool, "connect", count_and_connect)
        with ada.refused("service_unavailable"):
            await ada.list_tasks(limit=1)

    assert attempts == 1


@pytest.fixture
async def known(ada: Person) -> tuple[Person, Task]:
    """Ada, whose token the app knows, and a task of hers."""
    task = await ada.create_task("water the plants")
    await ada.get_task(task.id)
    return ada, task


REFUSED = {
    "revoked": "UPDATE user_sessions SET revoked = true WHERE token_hash = $1",
    "expired": "UPDATE user_sessions SET expires_at = now() WHERE token_hash = $1",
    "deleted": "DELETE FROM user_sessions WHERE token_hash = $1",
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
async def test_a_session_that_has_ended_reads_nothing_more(
    known: tuple[Person, Task], sql: asyncpg.Connection, change: str
) -> None:
    ada, task = known
    await sql.execute(change, token_hash(ada.token))

    with ada.refused("authentication_error"):
        await ada.get_task(task.id)
    with ada.refused("authentication_error"):
        await ada.list_tasks(limit=1)


async def test_a_session_that_another_user_took_over_reads_the_others_tasks(
    known: tuple[Person, Task], bob: Person, sql: asyncpg.Connection
) -> None:
    ada, task = known
    mine = await bob.create_task("feed the cat")
    await sql.execute(
        "UPDATE user_sessions SET user_id = 'bob' WHERE token_hash = $1", token_hash(ada.token)
    )

    with ada.refused("not_found_error"):
        await ada.get_task(task.id)
    assert (await ada.list_tasks(limit=5)).tasks == [mine]


async def test_a_session_that_was_extended_is_read_as_before(
    known: tuple[Person, Task], sql: asyncpg.Connection
) -> None:
    ada, task = known
    await sql.execute("UPDATE user_sessions SET expires_at = expires_at + interval '1 day'")

    assert await ada.get_task(task.id) == task
    assert await ada.get_task(task.id) == task


async def test_a_page_has_the_order_of_the_whole_list(known: tuple[Person, Task]) -> None:
    ada, _ = known
    for n in range(60):
        await ada.create_task(f"task {n}")
    whole = (await ada.list_tasks(limit=1000)).tasks

    for limit in (1, 10, 50):
        assert (await ada.list_tasks(limit=limit)).tasks == whole[:limit]
    assert (await ada.list_tasks(limit=50, completed=True)).tasks == []


@pytest.mark.parametrize("counted", LAYOUTS.values(), ids=LAYOUTS.keys(), indirect=True)
async def test_each_layout_of_sessions_can_be_joined(
    counted: tuple[Service, TripCounter],
) -> None:
    service, trips = counted
    headers = {"Authorization": f"Bearer {await service.session()}"}
    await service.client.post("/tasks", json={"title": "water"}, headers=headers)
    await service.client.get("/tasks?limit=5", headers=headers)
    before = trips.count

    lists = [await service.client.get("/tasks?limit=5", headers=headers) for _ in range(3)]

    assert [[task["title"] for task in response.json()] for response in lists] == [["water"]] * 3
    assert trips.count - before == 3


async def test_a_table_whose_name_looks_like_a_parameter_can_be_joined(
    new_service: NewService,
) -> None:
    rename = 'ALTER TABLE session RENAME TO "session$1"'
    async with new_service(NAIVE, rename, session_table='"session$1"') as service:
        await service.sql.execute(
            "INSERT INTO \"session$1\" VALUES ('known', 'ada', now() + interval '1 hour')"
        )
        headers = {"Authorization": "Bearer known"}
        await service.client.post("/tasks", json={"title": "water"}, headers=headers)

        responses = [await service.client.get("/tasks?limit=5", headers=headers) for _ in range(3)]

    assert [[task["title"] for task in response.json()] for response in responses] == [
        ["water"]
    ] * 3


async def test_a_session_that_the_table_has_twice_reads_each_task_once(
    new_service: NewService,
) -> None:
    """As a table without a unique index may, or a column in which different tokens are equal."""
    async with new_service(NAIVE) as service:
        headers = {"Authorization": f"Bearer {await service.session()}"}
        await service.client.post("/tasks", json={"title": "water"}, headers=headers)
        await service.client.get("/tasks?limit=5", headers=headers)
        await service.sql.execute("INSERT INTO session SELECT * FROM session")

        response = await service.client.get("/tasks?limit=5", headers=headers)

        assert [task["title"] for task in response.json()] == ["water"]


async def test_a_session_is_found_while_its_users_share_of_connections_is_in_use(
    known: tuple[Person, Task], app: FastAPI, client: httpx.AsyncClient
) -> None:
    ada, _ = known
    pool = app.state.twofold.pool
    async with holding(pool, *["user:ada"] * pool._share_size):
        async with asyncio.timeout(5):
            response = await client.post(
                "/graphql",
                json={"query": "{ viewer { userId } }"},
                headers={"Authorization": f"Bearer {ada.token}"},
            )

    assert response.json()["data"] == {"viewer": {"userId": "ada"}}


async def test_a_session_is_found_while_the_share_of_strangers_is_in_use(
    known: tuple[Person, Task], app: FastAPI
) -> None:
    ada, _ = known
    pool = app.state.twofold.pool
    async with holding(pool, *[UNIDENTIFIED] * pool._share_size):
        async with asyncio.timeout(5):
            await ada.create_task("sleep in")


async def test_a_session_that_has_ended_waits_for_nobodys_earlier_responses(
    known: tuple[Person, Task], app: FastAPI, sql: asyncpg.Connection
) -> None:
    ada, task = known
    await app._response_slots.acquire("user:ada", MAX_SLOTS)  # type: ignore[attr-defined]
    await sql.execute(REFUSED["revoked"], token_hash(ada.token))
    try:
        async with asyncio.timeout(5):
            with ada.refused("authentication_error"):
                await ada.get_task(task.id)
    finally:
        app._response_slots.release("user:ada", MAX_SLOTS)  # type: ignore[attr-defined]


# --- Budgets ------------------------------------------------------------------------------


@pytest.fixture(params=SURFACES)
async def metered(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Surface]:
    """Each protocol of an app with budgets of ``LIMIT`` reads a minute."""
    app = create_app(settings_of_tests(
        database_url=database_url, rate_limit_enabled=True, rate_limit_read=f"{LIMIT}/minute",
    ))  # fmt: skip
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield SURFACES[request.param](client)


async def test_what_a_read_costs_does_not_depend_on_whether_its_token_is_known(
    metered: Surface, sql: asyncpg.Connection
) -> None:
    carol = await sign_in(sql, metered, "carol", HASH_SECRET)
    task = await carol.create_task("water the plants")

    async def refused(task_id: Any) -> None:
        with pytest.raises(ApiError) as refusal:
            await carol.get_task(task_id)
        assert refusal.value.problem["status"] in (400, 404)

    reads = [
        lambda: carol.get_task(task.id),
        lambda: carol.list_tasks(limit=5),
        lambda: carol.list_tasks(limit=1000),
        lambda: refused(999),
        lambda: refused("abc"),
    ]
    for n in range(LIMIT):
        await reads[n % len(reads)]()
    with carol.refused("rate_limit_exceeded"):
        await carol.get_task(task.id)


async def test_a_read_that_the_budget_refuses_sends_no_task(
    metered: Surface, sql: asyncpg.Connection
) -> None:
    carol = await sign_in(sql, metered, "carol", HASH_SECRET)
    task = await carol.create_task("water the plants")
    await carol.get_task(task.id)

    responses = await asyncio.gather(
        *(carol.get_task(task.id) for _ in range(3 * LIMIT)), return_exceptions=True
    )

    admitted = [response for response in responses if not isinstance(response, Exception)]
    assert admitted == [task] * (LIMIT - 1)
    for response in responses:
        if isinstance(response, ApiError):
            assert response.problem["type"] == "rate_limit_exceeded"
            assert "water" not in str(response)


async def test_a_revoked_token_is_charged_to_its_address_not_to_its_user(
    metered: Surface, sql: asyncpg.Connection
) -> None:
    carol = await sign_in(sql, metered, "carol", HASH_SECRET)
    again = await sign_in(sql, metered, "carol", HASH_SECRET)
    task = await carol.create_task("water the plants")
    await carol.get_task(task.id)
    await sql.execute(REFUSED["revoked"], token_hash(carol.token))

    for _ in range(LIMIT):
        with carol.refused("authentication_error"):
            await carol.get_task(task.id)
    with carol.refused("rate_limit_exceeded"):
        await carol.get_task(task.id)

    for _ in range(LIMIT - 1):
        assert await again.get_task(task.id) == task


async def test_a_revoked_token_is_not_told_that_its_user_has_spent_a_budget(
    metered: Surface, sql: asyncpg.Connection
) -> None:
    carol = await sign_in(sql, metered, "carol", HASH_SECRET)
    task = await carol.create_task("water the plants")
    for _ in range(LIMIT):
        await carol.get_task(task.id)
    with carol.refused("rate_limit_exceeded"):
        await carol.get_task(task.id)
    await sql.execute(REFUSED["revoked"], token_hash(carol.token))

    with carol.refused("authentication_error") as refusal:
        await carol.get_task(task.id)

    assert refusal.value.headers.get_list("x-ratelimit-remaining") == [str(LIMIT - 1)]


# --- GraphQL's alone -------------------------------------------------------------------------


async def test_what_the_viewer_has_left_counts_this_request_in(
    metered: Surface, sql: asyncpg.Connection
) -> None:
    carol = await sign_in(sql, metered, "carol", HASH_SECRET)
    client: httpx.AsyncClient = metered._client
    document = (
        "{ viewer { reads { remaining } userId } tasks(first: 1) { totalCount nodes { id } } }"
    )

    left = []
    for _ in range(3):
        response = await client.post(
            "/graphql",
            json={"query": document},
            headers={"Authorization": f"Bearer {carol.token}"},
        )
        data = response.json()["data"]
        assert data["viewer"]["userId"] == "carol"
        left.append(data["viewer"]["reads"]["remaining"])

    assert left == [LIMIT - 2, LIMIT - 4, LIMIT - 6]


@pytest.mark.parametrize(
    "document",
    [
        "{ a: tasks(first: 1) { totalCount } b: tasks { nodes { title } } viewer { id } }",
        "{ viewer { id userId sessionExpiresAt } }",
        "{ __typename }",
        "{ a: tasks(first: 0) { totalCount } }",
        '{ node(id: "1") { id } task(id: "1") { id } }',
        "{ a: tasks(first: 2) { nodes { id } } b: tasks(first: 900) { nodes { id } } }",
    ],
)
async def test_a_known_token_gets_the_same_response_as_a_new_one(
    document: str, ada: Person, client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    for n in range(3):
        await ada.create_task(f"task {n}")
    new = await sign_in(sql, ada.surface, "ada", HASH_SECRET)

    async def data_for(person: Person) -> Any:
        response = await client.post(
            "/graphql",
            json={"query": document},
            headers={"Authorization": f"Bearer {person.token}"},
        )
        body = response.json()
        assert "errors" not in body
        if "sessionExpiresAt" in document:
            del body["data"]["viewer"]["sessionExpiresAt"]
        return body["data"]

    assert await data_for(ada) == await data_for(new) == await data_for(new)
