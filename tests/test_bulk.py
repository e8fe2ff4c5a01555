"""Many tasks at once: created all or not at all, changed in one statement; and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import create_app
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.operations import BulkCreate, BulkUpdate, Delete
from tests.people import Person, sign_in
from tests.surfaces import ApiError, Surface
from tests.trips import TripCounter

NEVER_USED = 2**62
IMPOSSIBLE = [0, -1, 2**63, 10**30]


def titled(count: int) -> list[dict[str, Any]]:
    return [{"title": f"task {number}"} for number in range(count)]


# --- Creating -----------------------------------------------------------------------------


async def test_tasks_are_created_in_the_order_given(ada: Person) -> None:
    tasks = await ada.create_tasks(
        {"title": " one "}, {"title": "two", "description": " "}, {"title": "3", "completed": True}
    )

    assert [(task.title, task.description, task.completed) for task in tasks] == [
        ("one", None, False),
        ("two", None, False),
        ("3", None, True),
    ]
    assert [task.id for task in tasks] == sorted(task.id for task in tasks)
    assert {(task.version, task.user_id) for task in tasks} == {(1, "ada")}
    assert len({(task.created_at, task.updated_at) for task in tasks}) == 1
    assert (await ada.list_tasks()).tasks == tasks[::-1]


async def test_a_hundred_tasks_are_created_at_once_and_not_one_more(ada: Person) -> None:
    tasks = await ada.create_tasks(*titled(100))
    with ada.refused("validation_error") as too_many:
        await ada.create_tasks(*titled(101))
    with ada.refused("validation_error") as too_few:
        await ada.create_tasks()

    assert [task.title for task in tasks] == [f"task {number}" for number in range(100)]
    assert too_many.value.fields == {"tasks": "too_long"}
    assert too_few.value.fields == {"tasks": "too_short"}
    assert len((await ada.list_tasks()).tasks) == 100


async def test_every_text_survives(ada: Person) -> None:
    texts = ['"\\', "\\u0041", "😀\U0010ffff", "a\r\nb\tc\x01\x7f", "{}[],:'; --", "null", "\u202e"]

    tasks = await ada.create_tasks(*({"title": f"<{t}>", "description": t} for t in texts))

    assert [(task.title, task.description) for task in tasks] == [(f"<{t}>", t) for t in texts]


async def test_all_are_created_or_none_and_each_error_is_told_with_its_place(ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_tasks(
            {"title": "fine"}, {"title": ""}, {"title": "x" * 201, "description": "x" * 1001}
        )

    assert refusal.value.fields == {
        "tasks.1.title": "string_too_short",
        "tasks.2.title": "string_too_long",
        "tasks.2.description": "string_too_long",
    }
    assert (await ada.list_tasks()).tasks == []


# --- Changing -----------------------------------------------------------------------------


async def test_a_bulk_change_answers_in_the_order_sent_and_counts_duplicates_once(
    ada: Person,
) -> None:
    one, two, three = await ada.create_tasks(*titled(3))

    outcome = await ada.change_tasks(
        [three.id, NEVER_USED, one.id, three.id, NEVER_USED], completed=True
    )

    assert [task.id for task in outcome.updated] == [three.id, one.id]
    assert outcome.not_found == [NEVER_USED]
    assert {(task.completed, task.version) for task in outcome.updated} == {(True, 2)}
    assert (await ada.list_tasks()).tasks == [outcome.updated[0], two, outcome.updated[1]]


async def test_an_absent_member_stays_and_null_clears(ada: Person) -> None:
    first, second = await ada.create_tasks(
        {"title": "a", "description": "old"}, {"title": "b", "completed": True}
    )

    outcome = await ada.change_tasks([first.id, second.id], description=None)

    assert [(task.title, task.description, task.completed) for task in outcome.updated] == [
        ("a", None, False),
        ("b", None, True),
    ]


async def test_what_already_has_the_new_values_is_updated_and_keeps_its_version(
    ada: Person,
) -> None:
    is_done, is_open = await ada.create_tasks({"title": "a", "completed": True}, {"title": "b"})

    outcome = await ada.change_tasks([is_open.id, is_done.id], completed=True)
    again = await ada.change_tasks([is_open.id, is_done.id])

    changed, unchanged = outcome.updated
    assert (changed.version, unchanged) == (2, is_done)
    assert changed.updated_at > is_open.updated_at
    assert again == outcome


async def test_a_bulk_change_finds_neither_impossible_ids_nor_deleted_tasks(ada: Person) -> None:
    living, deleted = await ada.create_tasks(*titled(2))
    await ada.delete_task(deleted.id)

    outcome = await ada.change_tasks([*IMPOSSIBLE, deleted.id, living.id], title="new")

    assert ([task.id for task in outcome.updated], outcome.not_found) == (
        [living.id],
        [*IMPOSSIBLE, deleted.id],
    )
    assert (await ada.list_trash()).titles == ["task 1"]


async def test_bob_cannot_change_adas_tasks_among_his(ada: Person, bob: Person) -> None:
    hers, his = await ada.create_task("hers"), await bob.create_task("his")

    outcome = await bob.change_tasks([hers.id, his.id], title="mine")

    assert ([task.id for task in outcome.updated], outcome.not_found) == ([his.id], [hers.id])
    assert await ada.get_task(hers.id) == hers


@pytest.mark.parametrize(
    ("ids", "code"), [([], "too_short"), ([1] * 1001, "too_long"), (range(1, 1002), "too_long")]
)
async def test_a_bulk_change_takes_one_to_a_thousand_ids(
    ids: list[int], code: str, ada: Person
) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.change_tasks(list(ids), completed=True)

    assert refusal.value.fields == {"task_ids": code}
    assert await ada.change_tasks(list(range(1, 1001)), completed=True) == (
        [],
        list(range(1, 1001)),
    )


async def test_a_thousand_tasks_are_changed_in_one_trip(
    ada: Person, sql: asyncpg.Connection, trips: TripCounter
) -> None:
    rows = await sql.fetch(
        "INSERT INTO tasks (user_id, title)"
        " SELECT 'ada', 'task ' || n FROM generate_series(1, 1000) n RETURNING id"
    )
    ids = [row["id"] for row in rows]
    for title in ("warm", "warmer"):
        await ada.create_tasks({"title": title})
        await ada.change_tasks(ids[:1], title=title)

    before = trips.count
    outcome = await ada.change_tasks(ids[::-1], completed=True)
    await ada.create_tasks(*titled(100))

    assert trips.count - before == 2 * 2
    assert [task.id for task in outcome.updated] == ids[::-1]
    assert all(task.completed for task in outcome.updated)


# --- Exactly once -------------------------------------------------------------------------


async def test_a_repeated_bulk_creation_gets_the_first_response(ada: Person) -> None:
    operation = BulkCreate(titled(30))

    created = await ada.surface.do(ada.token, operation, "once")
    await ada.delete_task(created[3].id)

    assert await ada.surface.do(ada.token, operation, "once") == created
    assert len((await ada.list_tasks()).tasks) == 29


async def test_a_repeated_bulk_change_gets_the_first_response(ada: Person) -> None:
    tasks = await ada.create_tasks(*titled(3))
    operation = BulkUpdate([tasks[2].id, NEVER_USED, tasks[0].id], {"completed": True})

    updated = await ada.surface.do(ada.token, operation, "once")
    await ada.surface.do(ada.token, Delete(str(tasks[0].id)))

    assert await ada.surface.do(ada.token, operation, "once") == updated
    assert [task.id for task in updated.updated] == [tasks[2].id, tasks[0].id]


@pytest.mark.parametrize("changed", ["ids", "members"])
async def test_another_bulk_change_with_the_same_key_is_refused(ada: Person, changed: str) -> None:
    first, second = [task.id for task in await ada.create_tasks(*titled(2))]
    await ada.surface.do(ada.token, BulkUpdate([first], {"completed": True}), "once")
    other = {
        "ids": BulkUpdate([second], {"completed": True}),
        "members": BulkUpdate([first], {"completed": False}),
    }[changed]

    with ada.refused("idempotency_mismatch"):
        await ada.surface.do(ada.token, other, "once")


# --- At the same time ---------------------------------------------------------------------


async def test_bulk_writes_of_the_same_tasks_do_not_deadlock(ada: Person) -> None:
    ids = [task.id for task in await ada.create_tasks(*titled(40))]

    async def write(number: int) -> None:
        order = ids[::-1] if number % 2 else ids
        match number % 4:
            case 0 | 1:
                await ada.change_tasks(order, title=f"by {number}")
            case 2:
                await ada.delete_tasks(order[: number % 20])
            case _:
                for task_id in order[: number % 5]:
                    with suppress(ApiError):  # It is not in the trash.
                        await ada.restore_task(task_id)

    await asyncio.gather(*(write(number) for number in range(60)))

    assert len((await ada.list_tasks()).tasks) + len((await ada.list_trash()).tasks) == 40


# --- What it costs ------------------------------------------------------------------------


@pytest.fixture
async def paying(
    database_url: str, sql: asyncpg.Connection, surface: Surface
) -> AsyncIterator[Person]:
    """Someone with a full budget."""
    app = create_app(settings_of_tests(database_url=database_url, rate_limit_enabled=True))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield await sign_in(sql, type(surface)(client), "zoe", HASH_SECRET)


async def remaining(person: Person) -> int:
    """What is left of the writes; asking costs one of them."""
    with person.refused("not_found_error") as refusal:
        await person.delete_task(NEVER_USED)
    return int(refusal.value.headers["x-ratelimit-remaining"]) + 1


@pytest.mark.parametrize(
    ("count", "cost"), [(1, 1), (20, 1), (21, 2), (40, 2), (41, 3), (99, 5), (100, 5)]
)
async def test_creating_costs_one_write_for_every_twenty_begun(
    paying: Person, count: int, cost: int
) -> None:
    await paying.create_tasks(*titled(count))

    assert await remaining(paying) == 30 - cost


async def test_changing_a_thousand_costs_one_write(paying: Person) -> None:
    await paying.change_tasks(list(range(1, 1001)), completed=True)

    assert await remaining(paying) == 29


async def test_what_is_invalid_costs_the_same(paying: Person) -> None:
    with paying.refused("validation_error"):
        await paying.create_tasks(*titled(99), {"title": ""})

    assert await remaining(paying) == 25


async def test_a_number_that_is_not_allowed_costs_one(paying: Person) -> None:
    for count in (0, 101):
        with paying.refused("validation_error"):
            await paying.create_tasks(*titled(count))

    assert await remaining(paying) == 28


async def test_what_cannot_be_paid_whole_is_refused_and_costs_nothing(paying: Person) -> None:
    for _ in range(5):
        await paying.create_tasks(*titled(100))
    await paying.create_task("one more")

    with paying.refused("rate_limit_exceeded") as refusal:
        await paying.create_tasks(*titled(81))

    assert refusal.value.problem["rate_limit_info"]["remaining"] == 4
    assert refusal.value.headers["x-ratelimit-remaining"] == "4"
    assert int(refusal.value.headers["retry-after"]) > 0
    assert len(await paying.create_tasks(*titled(80))) == 80
    with paying.refused("rate_limit_exceeded"):
        await paying.create_tasks(*titled(1))


# --- REST ---------------------------------------------------------------------------------


async def test_bulk_creation_is_answered_with_an_array(ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.post("/tasks/bulk-create", json={"tasks": titled(2)})

    assert response.status_code == 201
    assert [task["title"] for task in response.json()] == ["task 0", "task 1"]
    assert "deleted_at" not in response.json()[0]


async def test_errors_of_changes_have_their_place(ada_client: httpx.AsyncClient) -> None:
    body = {"task_ids": [1, "2"], "changes": {"title": None, "id": 7, "titel": 1}}

    response = await ada_client.post("/tasks/bulk-update", json=body)

    assert {error["field"]: error["code"] for error in response.json()["errors"]} == {
        "task_ids.1": "int_type",
        "changes.title": "string_type",
        "changes.titel": "extra_forbidden",
    }


async def test_whole_tasks_can_be_created_again(ada_client: httpx.AsyncClient) -> None:
    made = (await ada_client.post("/tasks/bulk-create", json={"tasks": titled(2)})).json()

    again = (await ada_client.post("/tasks/bulk-create", json={"tasks": made})).json()

    assert [task["title"] for task in again] == ["task 0", "task 1"]
    assert {task["id"] for task in again}.isdisjoint(task["id"] for task in made)


async def test_a_body_over_64_kib_is_too_large_here_too(ada_client: httpx.AsyncClient) -> None:
    fits = [{"title": "x", "description": "d" * 600} for _ in range(100)]
    too_large = [{"title": "x", "description": "d" * 700} for _ in range(100)]

    responses = [
        await ada_client.post("/tasks/bulk-create", json={"tasks": tasks})
        for tasks in (fits, too_large)
    ]

    assert [response.status_code for response in responses] == [201, 413]


SPENT = {"rate_limit_enabled": True, "rate_limit_write": "3/minute"}


@pytest.fixture
async def poor_client(
    ada_client: httpx.AsyncClient, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of an app where she has three writes a minute."""
    app = create_app(settings_of_tests(database_url=database_url, **SPENT))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        yield client


async def test_a_cost_above_the_limit_itself_is_invalid_and_costs_one(
    poor_client: httpx.AsyncClient,
) -> None:
    response = await poor_client.post("/tasks/bulk-create", json={"tasks": titled(61)})

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "cost_above_limit"
    assert response.headers["X-RateLimit-Remaining"] == "2"


@pytest.mark.parametrize(
    "request_", [{"json": {}}, {"content": b"{"}, {"content": b"x" * 70_000}, {"json": titled(1)}]
)
async def test_the_budget_comes_before_the_body(
    poor_client: httpx.AsyncClient, request_: dict[str, Any]
) -> None:
    headers = {"Content-Type": "application/json"}
    first, *_, third, fourth = [
        await poor_client.post("/tasks/bulk-create", headers=headers, **request_) for _ in range(4)
    ]

    assert first.status_code in (400, 413)
    assert first.headers["X-RateLimit-Remaining"] == "2"
    assert third.headers["X-RateLimit-Remaining"] == "0"
    assert fourth.status_code == 429


async def test_identity_comes_before_the_body(client: httpx.AsyncClient) -> None:
    response = await client.post("/tasks/bulk-create", content=b"{")

    assert response.status_code == 401


# --- GraphQL ------------------------------------------------------------------------------

LITERAL = "[" + ", ".join(['{title: "x"}'] * 41) + "]"


@pytest.mark.parametrize(
    ("query", "variables", "cost"),
    [
        (f"mutation {{ createTasks(inputs: {LITERAL}) {{ id }} }}", {}, 3),
        ('mutation { createTasks(inputs: {title: "one"}) { id } }', {}, 1),
        ("mutation ($new: [CreateTaskInput!]!) { createTasks(inputs: $new) { id } }", 41, 3),
        ("mutation ($new: [CreateTaskInput!]!) { a: createTasks(inputs: $new) { id }"
         ' createTask(input: {title: "x"}) { id } b: createTasks(inputs: $new) { id } }', 21, 5),
        ("mutation ($new: [CreateTaskInput!]!, $no: Boolean = false)"
         " { createTasks(inputs: $new) @include(if: $no) { id } }", 41, 1),
        ("mutation ($new: [CreateTaskInput!]! = " + LITERAL + ")"
         " { createTasks(inputs: $new) { id } }", {}, 3),
        ("mutation ($one: CreateTaskInput!) { createTasks(inputs: ["
         + ", ".join(["$one"] * 21) + "]) { id } }", {"one": {"title": "x"}}, 2),
        ("mutation ($new: [CreateTaskInput!]!) { ...Many } fragment Many on Mutation"
         " { createTasks(inputs: $new) { id } }", 100, 5),
    ],
)  # fmt: skip
async def test_a_document_costs_what_its_lists_cost(
    ada_client: httpx.AsyncClient, database_url: str, query: str, variables: Any, cost: int
) -> None:
    sent = {"new": titled(variables)} if isinstance(variables, int) else variables
    app = create_app(settings_of_tests(database_url=database_url, rate_limit_enabled=True))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        response = await client.post("/graphql", json={"query": query, "variables": sent})

    assert "errors" not in response.json()
    assert response.json()["extensions"]["cost"]["requested"] == cost
    assert response.headers["X-RateLimit-Remaining"] == str(30 - cost)


async def test_updated_tasks_count_as_items_of_the_response(ada_client: httpx.AsyncClient) -> None:
    query = """mutation ($ids: [ID!]!) {
        a: updateTasks(ids: $ids, input: {completed: true}) { updated { id title } }
        b: updateTasks(ids: $ids, input: {completed: true}) { updated { id title } }
        c: updateTasks(ids: $ids, input: {completed: true}) { updated { id title } }
    }"""
    body = {"query": query, "variables": {"ids": list(range(1, 1001))}}

    response = await ada_client.post("/graphql", json=body)

    assert "list items" in response.json()["errors"][0]["message"]


async def test_the_header_is_the_key_of_a_field_that_costs_more_than_one(
    ada_client: httpx.AsyncClient,
) -> None:
    query = "mutation ($new: [CreateTaskInput!]!) { createTasks(inputs: $new) { id } }"
    body = {"query": query, "variables": {"new": titled(30)}}

    first, second = [
        await ada_client.post("/graphql", json=body, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]

    assert first.json()["data"] == second.json()["data"]
    assert second.json()["extensions"]["idempotency"]["replayed"] is True
