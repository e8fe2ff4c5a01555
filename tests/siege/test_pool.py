"""One person's statements that take for ever, and everybody else's that do not."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx
import psutil
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.rate_limit import response_slots
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import Person, sign_in
from tests.servers import served
from tests.surfaces import ApiError, GraphQLSurface, RestSurface, Task
from tests.test_concurrency import outcomes

POOL = 4
DEADLINE = 20.0


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[FastAPI]:
    """An app with few connections, which remembers sessions."""
    app = create_app(
        settings_of_tests(
            database_url=database_url,
            sqlalchemy_pool_size=POOL,
            sqlalchemy_max_overflow=0,
            session_cache_seconds=30,
            request_deadline_seconds=DEADLINE,
        )
    )
    async with app.router.lifespan_context(app):
        yield app
        assert in_use(app) == (0, 0)


@pytest.fixture
async def client(small: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with new_client(small) as client:
        yield client


def in_use(app: FastAPI) -> tuple[int, int]:
    """Connections, and shares of them."""
    pool = app.state.twofold.pool
    return pool.in_use, pool.shares


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE / 2):
        while not done():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def locked(sql: asyncpg.Connection, what: str) -> AsyncIterator[None]:
    transaction = sql.transaction()
    await transaction.start()
    try:
        await sql.execute(what)
        yield
    finally:
        await transaction.rollback()


def row_of(task: Task) -> str:
    return f"SELECT FROM tasks WHERE id = {task.id} FOR UPDATE"


async def test_forty_changes_of_a_locked_row_delay_no_other_viewer(
    ada: Person, bob: Person, sql: asyncpg.Connection, small: FastAPI
) -> None:
    task = await ada.create_task("water the plants")
    await bob.list_tasks()

    async with locked(sql, row_of(task)):
        changes = [
            asyncio.create_task(ada.change_task(task.id, title=f"title {number}"))
            for number in range(40)
        ]
        await until(lambda: in_use(small)[0] >= POOL // 2)
        for number in range(30):
            await bob.create_task(f"task {number}")
            await bob.list_tasks()
        held = in_use(small)
        pending = [change for change in changes if not change.done()]
    changed = await asyncio.gather(*changes)

    assert held == (POOL // 2, 1)
    # The control: they took as long as the lock was held.
    assert len(pending) == 40
    assert sorted(each.version for each in changed) == list(range(2, 42))


@pytest.mark.drill
async def test_minutes_of_locked_changes_delay_no_other_viewer(
    database_url: str, sql: asyncpg.Connection
) -> None:
    """A process of its own: two minutes of changes, at each protocol, and one honest reader."""
    rush = {
        "SQLALCHEMY_POOL_SIZE": "10",
        "SQLALCHEMY_MAX_OVERFLOW": "20",
        "LOG_LEVEL": "ERROR",
    }
    async with served(database_url, **rush) as (client, process):
        bob = await sign_in(sql, RestSurface(client), "bob", HASH_SECRET)
        files = psutil.Process(process.pid).num_fds
        calm = await times_of(bob, seconds=10)
        files_before = files()

        async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as crowd:
            ada = await sign_in(sql, RestSurface(crowd), "ada", HASH_SECRET)
            again = await sign_in(sql, GraphQLSurface(crowd), "ada", HASH_SECRET)
            task = await ada.create_task("water the plants")
            over = asyncio.Event()
            async with locked(sql, row_of(task)):
                changes = [
                    asyncio.create_task(change_until(over, person, task))
                    for person in (ada, again)
                    for _ in range(20)
                ]
                await asyncio.sleep(1)
                attacked = await times_of(bob, seconds=110)
                over.set()
            await asyncio.gather(*changes)
        await asyncio.sleep(1)

        p99 = [statistics.quantiles(each, n=100)[98] for each in (calm, attacked)]
        assert p99[1] < 10 * p99[0], p99
        # The pool's connections may stay open; nothing else may.
        assert files() <= files_before + 30


async def times_of(person: Person, seconds: float) -> list[float]:
    """How long each of a person's reads took, in seconds."""
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        await person.list_tasks()
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    return times


async def change_until(over: asyncio.Event, person: Person, task: Task) -> None:
    while not over.is_set():
        with suppress(ApiError):
            await person.change_task(task.id, completed=True)


async def test_a_document_of_many_fields_has_no_more_than_its_share(
    client: httpx.AsyncClient,
    sql: asyncpg.Connection,
    small: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that it is the pool that bounds them.
    monkeypatch.setattr(response_slots, "MAX_SLOTS", 100)
    ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
    bob = await sign_in(sql, RestSurface(client), "bob", HASH_SECRET)
    task = await ada.create_task("water the plants")
    await bob.list_tasks()
    change = f'updateTask(id: "{task.id}", input: {{completed: true}}) {{ id }}'
    fields = " ".join(f"a{number}: {change}" for number in range(10))
    headers = {"Authorization": f"Bearer {ada.token}"}

    async with locked(sql, row_of(task)):
        documents = [
            asyncio.create_task(
                client.post("/graphql", json={"query": f"mutation {{ {fields} }}"}, headers=headers)
            )
            for _ in range(10)
        ]
        await until(lambda: in_use(small)[0] >= POOL // 2)
        for _ in range(30):
            await bob.list_tasks()
        held = in_use(small)
        assert not any(document.done() for document in documents)

    responses = await asyncio.gather(*documents)
    assert held == (POOL // 2, 1)
    assert ["errors" in response.json() for response in responses] == [False] * 10


async def test_beyond_a_full_queue_only_its_viewer_gets_an_immediate_503(
    ada: Person, bob: Person, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.pool.MAX_WAITING_STATEMENTS", 5)
    # So that it is the pool that bounds them.
    monkeypatch.setattr(response_slots, "MAX_SLOTS", 100)
    task = await ada.create_task("water the plants")
    await bob.list_tasks()

    async with locked(sql, row_of(task)):
        changes = [asyncio.create_task(ada.change_task(task.id, completed=True)) for _ in range(40)]
        await until(lambda: sum(change.done() for change in changes) >= 40 - POOL // 2 - 5)
        bob_client = await asyncio.gather(*(bob.list_tasks() for _ in range(7)))
        assert not all(change.done() for change in changes)
    results = await outcomes(*changes)

    counts = Counter(each if isinstance(each, str) else "changed" for each in results)
    assert counts == {"changed": POOL // 2 + 5, "service_unavailable": 40 - POOL // 2 - 5}
    assert len(bob_client) == 7


async def test_a_locked_session_table_delays_no_viewer_whose_token_was_valid_before(
    ada: Person, client: httpx.AsyncClient, sql: asyncpg.Connection, small: FastAPI
) -> None:
    await ada.list_tasks()

    async with locked(sql, "LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE"):
        strangers = [
            asyncio.create_task(client.get("/tasks", headers={"Authorization": f"Bearer {n}"}))
            for n in range(40)
        ]
        await until(lambda: in_use(small)[0] >= POOL // 2)
        for number in range(20):
            await ada.create_task(f"task {number}")
        held = in_use(small)
        assert not any(stranger.done() for stranger in strangers)

    responses = await asyncio.gather(*strangers)
    assert held == (POOL // 2, 1)
    assert {response.status_code for response in responses} == {401}


async def test_requests_that_are_given_up_leave_nothing_behind(
    ada: Person, bob: Person, sql: asyncpg.Connection, small: FastAPI
) -> None:
    task = await ada.create_task("water the plants")

    async with locked(sql, row_of(task)):
        for _ in range(5):
            changes = [
                asyncio.create_task(ada.change_task(task.id, completed=True)) for _ in range(20)
            ]
            await asyncio.sleep(0.05)
            for change in changes:
                change.cancel()
            await asyncio.gather(*changes, return_exceptions=True)
        await until(lambda: in_use(small) == (0, 0))

    assert len((await bob.list_tasks()).tasks) == 0
    assert (await ada.change_task(task.id, completed=True)).completed
