"""A warm write waits for the database twice: for its session and its work. A read waits once."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import httpx
import pytest

from api.server import readiness
from tests.operations import BulkDelete, Change, Create, Delete, Task
from tests.people import Person
from tests.surfaces import ApiError
from tests.trips import TripCounter

SESSION = 1
WORK = 1
READ = 1
"""The session is looked up with the row or the rows."""


@contextmanager
def making(trips: TripCounter, expected: int) -> Iterator[None]:
    """Require so many round trips in the block."""
    before = trips.count
    yield
    assert trips.count - before == expected


@pytest.fixture
async def task(ada: Person) -> Task:
    """A task of Ada's. Every statement has been prepared before."""
    for _ in range(2):
        task = await ada.create_task("water the plants")
        await ada.get_task(task.id)
        await ada.list_tasks()
        await ada.list_tasks(limit=1)
        await ada.list_tasks(completed=False)
        await ada.change_task(task.id, completed=True)
        await ada.delete_task(task.id)
        await ada.delete_tasks([task.id])
    return await ada.create_task("water the plants")


async def test_creating_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    with making(trips, SESSION + WORK):
        await ada.create_task("sleep in", description="until ten")


async def test_getting_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    with making(trips, READ):
        await ada.get_task(task.id)


@pytest.mark.parametrize(
    "query", [{}, {"limit": 50}, {"limit": 50, "completed": False}, {"limit": 1}]
)
async def test_listing_takes_one_trip(
    ada: Person, task: Task, trips: TripCounter, query: dict[str, object]
) -> None:
    await ada.create_task("sleep in")
    await ada.list_tasks(**query)

    with making(trips, READ):
        await ada.list_tasks(**query)


async def test_changes_take_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    token = (await ada.list_tasks(limit=1)).sync_token
    await ada.create_task("sleep in")
    await ada.list_changes(since=token, limit=50)

    with making(trips, READ):
        page = await ada.list_changes(since=token, limit=50)

    assert len(page.tasks) == 1


async def test_an_unchanged_list_takes_one_trip(
    ada_client: httpx.AsyncClient, trips: TripCounter
) -> None:
    for _ in range(2):
        first = await ada_client.get("/tasks?limit=50")
        known = {"If-None-Match": first.headers["etag"]}
        await ada_client.get("/tasks?limit=50", headers=known)

    with making(trips, READ):
        response = await ada_client.get("/tasks?limit=50", headers=known)

    assert response.status_code == 304


async def test_the_next_page_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    await ada.create_task("sleep in")
    page = await ada.list_tasks(limit=1)
    await ada.list_tasks(limit=1, cursor=page.next_cursor)

    with making(trips, READ):
        await ada.list_tasks(limit=1, cursor=page.next_cursor)


async def test_a_thousand_tasks_are_listed_in_one_trip(
    ada: Person, task: Task, trips: TripCounter, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title)"
        " SELECT 'ada', 'task ' || n FROM generate_series(1, 1000) n"
    )
    await ada.list_tasks(limit=1)

    with making(trips, READ):
        listed = await ada.list_tasks()

    assert len(listed.tasks) == 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"completed": True},
        {"title": "water the ferns", "description": "little", "completed": True},
        {"completed": False},
        {"description": None},
    ],
)
@pytest.mark.parametrize("at_version", [None, 1])
async def test_changing_takes_one_trip(
    ada: Person,
    task: Task,
    trips: TripCounter,
    changes: dict[str, object],
    at_version: int | None,
) -> None:
    with making(trips, SESSION + WORK):
        await ada.change_task(task.id, at_version, **changes)


async def test_a_key_costs_no_trip_and_neither_does_a_repeat(
    ada: Person, task: Task, trips: TripCounter
) -> None:
    operations = [
        Create({"title": "sleep in"}),
        Change(str(task.id), {"completed": True}),
        BulkDelete([task.id]),
        Delete(str(task.id)),
    ]
    for number, operation in enumerate(operations):
        with suppress(ApiError):  # Of a task that is gone.
            await ada.surface.do(ada.token, operation, f"warm {number}")
    for number, operation in enumerate(operations * 2):
        with making(trips, SESSION + WORK), suppress(ApiError):
            await ada.surface.do(ada.token, operation, f"key {number % 4}")


@pytest.mark.parametrize("at_version", [None, 1])
async def test_deleting_takes_one_trip(
    ada: Person, task: Task, trips: TripCounter, at_version: int | None
) -> None:
    with making(trips, SESSION + WORK):
        await ada.delete_task(task.id, at_version)


async def test_deleting_many_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    others = [(await ada.create_task(f"task {number}")).id for number in range(5)]

    with making(trips, SESSION + WORK):
        await ada.delete_tasks([task.id, *others, task.id, 0, 2**63 - 1])


async def test_the_trash_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    for _ in range(2):
        other = await ada.create_task("sleep in")
        await ada.delete_task(other.id)
        await ada.list_trash(limit=1)
        await ada.restore_task(other.id)
        await ada.empty_trash()
    await ada.delete_task(task.id)

    with making(trips, READ):
        await ada.list_trash(limit=50)
    with making(trips, SESSION + WORK):
        await ada.restore_task(task.id)
    with making(trips, SESSION + WORK):
        await ada.empty_trash()


async def test_deleting_impossible_ids_takes_one_trip(
    ada: Person, task: Task, trips: TripCounter
) -> None:
    with making(trips, SESSION + WORK):
        await ada.delete_tasks([0, -1, 2**63])


async def test_a_missing_task_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    with making(trips, READ), ada.refused("not_found_error"):
        await ada.get_task(2**63 - 1)
    attempts = {
        "change": lambda: ada.change_task(2**63 - 1, completed=True),
        "change at a version": lambda: ada.change_task(2**63 - 1, 1, completed=True),
        "delete": lambda: ada.delete_task(2**63 - 1),
    }

    for attempt in attempts.values():
        await refused_in(trips, ada, "not_found_error", attempt())


async def test_another_version_takes_one_trip(ada: Person, task: Task, trips: TripCounter) -> None:
    await refused_in(trips, ada, "precondition_failed", ada.change_task(task.id, 7, completed=True))
    await refused_in(trips, ada, "precondition_failed", ada.delete_task(task.id, 7))


async def refused_in(
    trips: TripCounter, person: Person, error_type: str, attempt: Awaitable[object]
) -> None:
    with making(trips, SESSION + WORK), person.refused(error_type):
        await attempt


async def test_invalid_input_takes_only_the_trip_for_the_session(
    ada: Person, task: Task, trips: TripCounter
) -> None:
    with making(trips, SESSION), ada.refused("validation_error"):
        await ada.create_task("")
    with making(trips, SESSION), ada.refused("not_found_error"):
        await ada.get_task(0)


async def test_a_request_without_a_token_takes_no_trip(
    stranger: Person, task: Task, trips: TripCounter
) -> None:
    with making(trips, 0), stranger.refused("authentication_error"):
        await stranger.list_tasks()


# --- What is REST's alone -----------------------------------------------------------------


async def test_put_takes_one_trip(
    client: httpx.AsyncClient, ada: Person, task: Task, trips: TripCounter
) -> None:
    identity = {"Authorization": f"Bearer {ada.token}"}

    with making(trips, SESSION + WORK):
        await client.put(f"/tasks/{task.id}", json={"title": "sleep in"}, headers=identity)


async def test_not_modified_takes_one_trip(
    client: httpx.AsyncClient, ada: Person, task: Task, trips: TripCounter
) -> None:
    known = {"Authorization": f"Bearer {ada.token}", "If-None-Match": '"1"'}

    with making(trips, READ):
        response = await client.get(f"/tasks/{task.id}", headers=known)

    assert response.status_code == 304


async def test_health_takes_no_trip(client: httpx.AsyncClient, trips: TripCounter) -> None:
    with making(trips, 0):
        await client.get("/health")


async def test_readiness_takes_two_trips(
    client: httpx.AsyncClient, trips: TripCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    await client.get("/health/ready")

    with making(trips, 2):  # The sessions, and our own tables.
        await client.get("/health/ready")
