"""A database that is far away: the round trips of each operation, warm and at first.

Only trips are asserted, because every machine has the same; ``make bench-latency`` measures time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from api.app import create_app
from persistence.embedded.processes import free_port
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.control import GIVE_UP
from tests.operations import Task
from tests.people import Person, sign_in
from tests.pgbouncer import through
from tests.surfaces import Surface
from tests.trips import TripCounter

FAR: Final = 0.004
"""Seconds that a round trip takes: longer than what the service does between two."""

WARM: Final = 2
"""One for the session, one for the work."""

AT_FIRST: Final = 5
"""Besides: start-up, two for the password (SCRAM), and for each statement what its types are."""


@pytest.fixture
async def far(database_url: str) -> AsyncIterator[TripCounter]:
    """The database through a proxy that delays it."""
    async with TripCounter.before(through(database_url), delay=FAR) as trips:
        yield trips


@pytest.fixture
async def client(far: TripCounter) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that has just started."""
    app = create_app(settings_of_tests(database_url=far.url))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client


@contextmanager
def making_at_most(trips: TripCounter, expected: int) -> Iterator[None]:
    before = trips.count
    yield
    assert trips.count - before <= expected


Operation = Callable[[Person, Task], Awaitable[object]]

OPERATIONS: Final[dict[str, Operation]] = {
    "list": lambda ada, task: ada.list_tasks(),
    "list a page": lambda ada, task: ada.list_tasks(limit=1),
    "list what is to do": lambda ada, task: ada.list_tasks(completed=False),
    "get": lambda ada, task: ada.get_task(task.id),
    "create": lambda ada, task: ada.create_task("sleep in", description="until ten"),
    "change": lambda ada, task: ada.change_task(task.id, completed=True),
    "change at a version": lambda ada, task: ada.change_task(task.id, task.version, title="sleep"),
    "delete": lambda ada, task: ada.delete_task(task.id),
    "delete many": lambda ada, task: ada.delete_tasks([task.id, 2**62]),
}

of_every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@of_every_operation
async def test_a_warm_operation_takes_two_trips(
    ada: Person, far: TripCounter, operation: Operation
) -> None:
    await operation(ada, await ada.create_task("water the plants"))
    task = await ada.create_task("water the plants")

    with making_at_most(far, WARM):
        await operation(ada, task)


@of_every_operation
async def test_the_first_on_a_new_connection_takes_five_more(
    ada: Person, far: TripCounter, operation: Operation
) -> None:
    task = await ada.create_task("water the plants")
    before = far.connections
    await far.drop()

    with making_at_most(far, WARM + AT_FIRST):
        await operation(ada, task)

    assert far.connections == before + 1


async def test_the_queries_of_the_dialect_are_made_before_the_app_is_ready(
    surface: Surface, sql: asyncpg.Connection, database_url: str
) -> None:
    port = free_port()
    url = through(database_url)
    later = url.replace(f":{urlsplit(url).port}/", f":{port}/") + "?sslmode=disable"
    app = create_app(settings_of_tests(database_url=later, request_deadline_seconds=1))
    async with app.router.lifespan_context(app), new_client(app) as client:
        assert (await client.get("/health/ready")).status_code == 503

        async with TripCounter.before(url, FAR, port) as trips:
            await until_ready(client)
            ada = await sign_in(sql, type(surface)(client), "ada", HASH_SECRET)
            await trips.drop()
            with making_at_most(trips, WARM + AT_FIRST):
                await ada.list_tasks()


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(GIVE_UP):
        ready = False
        while not ready:
            await asyncio.sleep(0.05)
            ready = (await client.get("/health/ready")).status_code == 200
