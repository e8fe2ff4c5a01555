"""Requests with an idempotency key, over both protocols: done once, and answered the same."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import ROOT
from tests.operations import BulkDelete, Change, Create, Delete, Operation, Task
from tests.people import Person
from tests.surfaces import ApiError, Response, is_replayed

WATER = Create({"title": "water the plants"})


async def send(person: Person, operation: Operation, key: str | None, **headers: str) -> Response:
    """The response itself."""
    surface = person.surface
    request = surface.encode(operation)
    keyed = {} if key is None else {"idempotency-key": key}
    response = await surface._client.request(
        request.method,
        request.target,
        content=request.body,
        headers={
            "authorization": f"Bearer {person.token}", **request.headers, **keyed, **headers
        },
    )  # fmt: skip
    return Response(response.status_code, response.headers, response.content)


async def do(person: Person, operation: Operation, key: str) -> Any:
    """The result, or the error."""
    try:
        return await person.surface.do(person.token, operation, key)
    except ApiError as error:
        own = ("timestamp", "request_id")
        return {name: value for name, value in error.problem.items() if name not in own}


@pytest.fixture
async def task(ada: Person) -> Task:
    return await ada.create_task("sleep in")


# --- The same request again ---------------------------------------------------------------


async def test_a_repeat_creates_nothing_and_gets_the_first_response(ada: Person) -> None:
    first = await do(ada, WATER, "k")
    await ada.change_task(first.id, completed=True)

    again = await do(ada, WATER, "k")

    assert again == first
    assert len((await ada.list_tasks()).tasks) == 1


async def test_every_write_is_remembered(ada: Person, task: Task) -> None:
    other = await ada.create_task("feed the cat")
    operations: list[Operation] = [
        Change(str(task.id), {"completed": True}, 1),
        Change(str(task.id), {"completed": True}, 1, whole=True),
        Delete(str(task.id), 2),
        Delete(str(task.id)),
        Change(str(task.id), {"title": "late"}),
        BulkDelete([other.id, task.id]),
    ]
    first = [await do(ada, operation, f"k{n}") for n, operation in enumerate(operations)]

    again = [await do(ada, operation, f"k{n}") for n, operation in enumerate(operations)]

    assert again == first
    assert [response.get("status") for response in first if isinstance(response, dict)] == [
        412,
        404,
        404,
    ]


async def test_a_replay_says_so_and_the_first_response_does_not(ada: Person) -> None:
    responses = [await send(ada, WATER, "k") for _ in range(3)]

    assert [is_replayed(ada.surface.api, each) for each in responses] == [False, True, True]
    assert len({each.headers["x-request-id"] for each in responses}) == 3


async def test_a_failure_is_replayed_too(ada: Person) -> None:
    missing = Change("999", {"completed": True})

    responses = [await send(ada, missing, "k") for _ in range(2)]

    assert [is_replayed(ada.surface.api, each) for each in responses] == [False, True]


async def test_quotes_are_not_part_of_a_key(ada: Person) -> None:
    assert await do(ada, WATER, '"k"') == await do(ada, WATER, "k")


async def test_what_is_refused_before_the_work_is_not_remembered(ada: Person) -> None:
    with ada.refused("validation_error"):
        await ada.surface.do(ada.token, Create({"title": " "}), "k")

    created = await do(ada, WATER, "k")

    assert created.title == "water the plants"


# --- Another request ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        Create({"title": "water the ferns"}),
        Create({"title": "water the plants", "completed": True}),
        Change("{id}", {"title": "water the plants"}),
        Delete("{id}"),
        BulkDelete([1]),
    ],
)
async def test_another_request_with_the_key_is_refused_and_does_nothing(
    ada: Person, task: Task, other: Any
) -> None:
    await do(ada, WATER, "k")
    if hasattr(other, "id"):
        other = type(other)(str(task.id), *list(vars(other).values())[1:])

    with ada.refused("idempotency_mismatch") as refusal:
        await ada.surface.do(ada.token, other, "k")

    assert refusal.value.problem["status"] == 422
    assert len((await ada.list_tasks()).tasks) == 2
    assert await ada.get_task(task.id) == task


async def test_another_version_is_another_request(ada: Person, task: Task) -> None:
    await do(ada, Change(str(task.id), {"completed": True}, 1), "k")

    for version in (None, 2):
        with ada.refused("idempotency_mismatch"):
            change = Change(str(task.id), {"completed": True}, version)
            await ada.surface.do(ada.token, change, "k")


async def test_the_same_body_in_other_words_is_the_same_request(ada: Person) -> None:
    first = await do(ada, WATER, "k")

    same = Create({"description": None, "completed": False, "title": " water the plants "})

    assert await do(ada, same, "k") == first


async def test_a_key_belongs_to_its_person(ada: Person, bob: Person) -> None:
    hers = await do(ada, WATER, "k")

    his = await do(bob, WATER, "k")

    assert his.id != hers.id
    assert (hers.user_id, his.user_id) == ("ada", "bob")


# --- At once ------------------------------------------------------------------------------


async def test_of_many_at_once_one_is_done(ada: Person) -> None:
    responses = await asyncio.gather(*(do(ada, WATER, "k") for _ in range(5)))

    [task] = (await ada.list_tasks()).tasks
    for response in responses:
        assert response == task or response["type"] == "idempotency_in_flight"


async def test_a_repeat_of_a_running_request_gets_a_retry_after(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    change = Change(str(task.id), {"completed": True})
    async with sql.transaction():
        await sql.execute("SELECT FROM tasks FOR UPDATE")
        first = asyncio.create_task(do(ada, change, "k"))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        while not await sql.fetchval(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        response = await send(ada, change, "k")

    problem = response.json
    if "errors" in problem:
        [error] = problem["errors"]
        problem = error["extensions"]
    else:
        assert response.headers["retry-after"] == "1"
    assert (problem["type"], problem["status"]) == ("idempotency_in_flight", 409)
    assert problem["retry_after"] == 1
    assert (await first).version == 2
    assert await do(ada, change, "k") == await first


# --- Keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "é", "a\tb"])
async def test_what_is_no_key_is_rejected(ada: Person, key: str) -> None:
    with ada.refused("validation_error") as refusal:
        # httpx sends text as ASCII.
        await ada.surface.do(ada.token, WATER, key.encode("latin-1"))  # type: ignore[arg-type]

    assert refusal.value.fields == {"Idempotency-Key": "idempotency_key"}
    assert (await ada.list_tasks()).tasks == []


# --- REST's alone -------------------------------------------------------------------------


async def test_rest_repeats_the_status_and_the_headers(ada_client: httpx.AsyncClient) -> None:
    async def both(method: str, path: str, **options: Any) -> list[httpx.Response]:
        headers = {"Idempotency-Key": f"{method} {path}"} | options.pop("headers", {})
        return [
            await ada_client.request(method, path, headers=headers, **options) for _ in range(2)
        ]

    created = await both("POST", "/tasks", json={"title": "water the plants"})
    path = f"/tasks/{created[0].json()['id']}"
    pairs = [
        created,
        await both("PATCH", path, json={"completed": True}),
        await both("PUT", path, json={"title": "x"}, headers={"If-Match": '"7"'}),
        await both("DELETE", path),
        await both("POST", "/tasks/bulk-delete", json={"task_ids": [1]}),
    ]

    for first, again in pairs:
        assert again.status_code == first.status_code
        for name in ("etag", "location", "content-type"):
            assert again.headers.get(name) == first.headers.get(name)
        if first.is_success:
            assert again.content == first.content
        replayed = [each.headers.get("idempotency-replayed") for each in (first, again)]
        assert replayed == [None, "true"]
    assert [first.status_code for first, _ in pairs] == [201, 200, 412, 204, 200]


async def test_put_and_patch_are_different_requests(ada_client: httpx.AsyncClient) -> None:
    task = (await ada_client.post("/tasks", json={"title": "x"})).json()
    key = {"Idempotency-Key": "k"}

    await ada_client.put(f"/tasks/{task['id']}", json={"completed": True}, headers=key)
    other = await ada_client.patch(f"/tasks/{task['id']}", json={"completed": True}, headers=key)

    assert other.status_code == 422


async def test_a_key_sent_twice_is_rejected(ada_client: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    response = await ada_client.post("/tasks", json={"title": "x"}, headers=headers)

    assert response.json()["errors"][0]["code"] == "repeated_header"


async def test_a_page_may_send_a_key_and_read_that_a_response_is_a_replay(
    ada_client: httpx.AsyncClient,
) -> None:
    origin = "http://localhost:5173"
    preflight = await ada_client.options(
        "/tasks",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "idempotency-key",
        },
    )
    response = await ada_client.get("/tasks", headers={"Origin": origin})

    assert preflight.headers["Access-Control-Allow-Headers"] == "idempotency-key"
    exposed = re.split(", ?", response.headers["Access-Control-Expose-Headers"])
    assert "Idempotency-Replayed" in exposed


async def test_the_other_protocol_is_another_request(ada_client: httpx.AsyncClient) -> None:
    await ada_client.post("/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})

    document = 'mutation { createTask(input: {title: "x"}, idempotencyKey: "k") { id } }'
    response = await ada_client.post("/graphql", json={"query": document})

    [error] = response.json()["errors"]
    assert error["extensions"]["code"] == "IDEMPOTENCY_MISMATCH"


# --- GraphQL's alone ----------------------------------------------------------------------


async def graphql(client: httpx.AsyncClient, document: str, **headers: str) -> Any:
    response = await client.post("/graphql", json={"query": document}, headers=headers)
    return response.json()


async def test_a_repeat_may_select_other_fields(ada_client: httpx.AsyncClient) -> None:
    create = 'mutation { createTask(input: {title: "x"}, idempotencyKey: "k") { %s } }'
    first = await graphql(ada_client, create % "id")

    again = await graphql(ada_client, create % "id title version createdAt")

    task = again["data"]["createTask"]
    assert task["id"] == first["data"]["createTask"]["id"]
    assert (task["title"], task["version"]) == ("x", 1)


async def test_each_field_has_a_key_of_its_own(ada_client: httpx.AsyncClient) -> None:
    document = """mutation {
        a: createTask(input: {title: "a"}, idempotencyKey: "a") { id }
        b: createTask(input: {title: "b"}, idempotencyKey: "%s") { id }
        c: createTask(input: {title: "c"}) { id }
    }"""
    first = await graphql(ada_client, document % "b")

    again = await graphql(ada_client, document % "another")

    assert first["extensions"]["idempotency"] == {"replayed": False, "fields": []}
    assert again["extensions"]["idempotency"] == {"replayed": True, "fields": ["a"]}
    same = [name for name in "abc" if again["data"][name] == first["data"][name]]
    assert same == ["a"]


async def test_the_header_is_for_one_field(ada_client: httpx.AsyncClient) -> None:
    document = """mutation {
        a: createTask(input: {title: "a"}) { id }
        b: createTask(input: {title: "b"}) { id }
    }"""
    several = await graphql(ada_client, document, **{"Idempotency-Key": "k"})
    one = 'mutation { createTask(input: {title: "a"}, idempotencyKey: "%s") { id } }'
    other = await graphql(ada_client, one % "other", **{"Idempotency-Key": "k"})
    same = await graphql(ada_client, one % "k", **{"Idempotency-Key": "k"})

    [error] = several["errors"]
    assert error["extensions"]["status"] == 400
    assert error["extensions"]["errors"][0]["code"] == "idempotency_key_of_several"
    [error] = other["errors"]
    assert error["extensions"]["errors"][0]["field"] == "idempotencyKey"
    assert same["data"]["createTask"]


async def test_a_query_ignores_the_header(ada_client: httpx.AsyncClient) -> None:
    response = await graphql(ada_client, "{ viewer { userId } }", **{"Idempotency-Key": "x" * 300})

    assert response["data"]["viewer"] == {"userId": "ada"}
    assert "idempotency" not in response["extensions"]


async def test_every_error_is_reported_at_once(ada_client: httpx.AsyncClient) -> None:
    wrong = 'mutation { createTask(input: {title: ""}, idempotencyKey: "") { id } }'
    response = await graphql(ada_client, wrong)

    errors = response["errors"][0]["extensions"]["errors"]
    assert [error["field"] for error in errors] == ["title", "idempotencyKey"]


# --- The client ---------------------------------------------------------------------------


def test_the_client_of_the_documentation_is_short() -> None:
    client = (ROOT / "tests" / "browser" / "write.ts").read_text()

    assert len(client.splitlines()) <= 60
