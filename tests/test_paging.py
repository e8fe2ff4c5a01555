"""Pages of a list: envelopes in REST, and in GraphQL both directions and counts alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.trips import TripCounter

TITLES = [f"task {number}" for number in range(7, 0, -1)]
"""Newest first, as lists are."""


@pytest.fixture
async def client(ada_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Ada's, who has seven tasks; every other one is done."""
    for number in range(1, 8):
        await ada_client.post(
            "/tasks", json={"title": f"task {number}", "completed": number % 2 == 0}
        )
    return ada_client


PAGE = """
query ($first: Int, $after: String, $last: Int, $before: String, $filter: TaskFilter) {
  tasks(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    nodes { title } edges { cursor } totalCount
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""


async def page(client: httpx.AsyncClient, **variables: Any) -> dict[str, Any]:
    """A page, with the titles of its tasks."""
    response = await client.post("/graphql", json={"query": PAGE, "variables": variables})
    data: dict[str, Any] = response.json()["data"]["tasks"]
    return data | {"titles": [node["title"] for node in data["nodes"]]}


async def refusal(client: httpx.AsyncClient, **variables: Any) -> dict[str, str]:
    """The code of each rejected argument."""
    response = await client.post("/graphql", json={"query": PAGE, "variables": variables})
    [error] = response.json()["errors"]
    return {each["field"]: each["code"] for each in error["extensions"]["errors"]}


# --- REST ---------------------------------------------------------------------------------


async def test_an_envelope_has_the_tasks_and_the_next_cursor(client: httpx.AsyncClient) -> None:
    titles, cursors, cursor = [], [], ""
    while cursor is not None:
        query = {"envelope": "true", "limit": "3"} | ({"cursor": cursor} if cursor else {})
        response = await client.get("/tasks", params=query)
        body = response.json()
        titles += [task["title"] for task in body["items"]]
        cursor = body["next_cursor"]
        cursors.append(cursor)
        assert list(body) == ["items", "next_cursor"]
        assert ("Link" in response.headers) == (cursor is not None)

    assert titles == TITLES
    assert [each is None for each in cursors] == [False, False, True]


async def test_the_link_of_an_envelope_leads_to_an_envelope(client: httpx.AsyncClient) -> None:
    first = await client.get("/tasks?envelope=true&limit=5&completed=false")
    assert "Link" not in first.headers

    first = await client.get("/tasks?envelope=true&limit=3&completed=false")
    second = await client.get(first.url.join(first.links["next"]["url"]))

    assert [task["title"] for task in second.json()["items"]] == ["task 1"]


@pytest.mark.parametrize("value", ["false", None])
async def test_the_array_stays_the_default(value: str | None, client: httpx.AsyncClient) -> None:
    response = await client.get("/tasks", params={"envelope": value} if value else {})

    assert [task["title"] for task in response.json()] == TITLES


@pytest.mark.parametrize("value", ["True", "1", "yes", ""])
async def test_an_envelope_is_true_or_false(value: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/tasks", params={"envelope": value})

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "envelope")


# --- GraphQL ------------------------------------------------------------------------------


async def test_the_last_tasks_are_the_oldest_in_the_order_of_the_list(
    client: httpx.AsyncClient,
) -> None:
    last = await page(client, last=2)

    assert last["titles"] == ["task 2", "task 1"]
    assert (last["pageInfo"]["hasPreviousPage"], last["pageInfo"]["hasNextPage"]) == (True, False)


@pytest.mark.parametrize("filter", [None, {"completed": True}, {"completed": False}])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 1000])
async def test_the_pages_backward_are_the_list(
    size: int, filter: dict[str, bool] | None, client: httpx.AsyncClient
) -> None:
    everything = await page(client, first=1000, filter=filter)
    titles: list[str] = []
    arguments: dict[str, Any] = {}
    while True:
        last_page = await page(client, last=size, filter=filter, **arguments)
        titles = last_page["titles"] + titles
        info = last_page["pageInfo"]
        assert info["hasNextPage"] == ("before" in arguments)
        assert info["startCursor"] == last_page["edges"][0]["cursor"]
        if not info["hasPreviousPage"]:
            break
        arguments = {"before": info["startCursor"]}

    assert titles == everything["titles"]


async def test_what_is_before_a_task_in_the_middle_is_what_was_after_it_backward(
    client: httpx.AsyncClient,
) -> None:
    cursors = [edge["cursor"] for edge in (await page(client, first=7))["edges"]]

    before = await page(client, last=2, before=cursors[4])
    default = await page(client, before=cursors[4])
    after = await page(client, first=2, after=cursors[4])

    assert before["titles"] == TITLES[2:4]
    assert default["titles"] == TITLES[:4]
    assert after["titles"] == TITLES[5:]


@pytest.mark.parametrize("argument", ["first", "last"])
async def test_a_page_of_none_is_a_count_alone(argument: str, client: httpx.AsyncClient) -> None:
    none = await page(client, **{argument: 0})

    has_more = "hasNextPage" if argument == "first" else "hasPreviousPage"
    assert (none["nodes"], none["edges"], none["totalCount"]) == ([], [], 7)
    assert none["pageInfo"][has_more]
    assert none["pageInfo"]["startCursor"] is none["pageInfo"]["endCursor"] is None


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"first": 1, "last": 1}, {"first": "paging_arguments"}),
        (
            {"first": 0, "before": "x"},
            {"first": "paging_arguments", "before": "cursor_invalid"},
        ),
        ({"after": "x", "last": 1}, {"after": "paging_arguments"}),
        ({"last": -1}, {"last": "greater_than_equal"}),
        ({"last": 1001}, {"last": "less_than_equal"}),
        ({"before": "x"}, {"before": "cursor_invalid"}),
        ({"first": -1, "after": "x"}, {"first": "greater_than_equal", "after": "cursor_invalid"}),
    ],
)
async def test_a_page_has_one_direction_and_a_size(
    arguments: dict[str, Any], refused: dict[str, str], client: httpx.AsyncClient
) -> None:
    assert await refusal(client, **arguments) == refused


async def test_null_is_as_if_absent(client: httpx.AsyncClient) -> None:
    last_page = await page(client, first=None, after=None, last=2, before=None)

    assert last_page["titles"] == ["task 2", "task 1"]


@pytest.mark.parametrize("arguments", [{"first": 3}, {"last": 3}, {}])
async def test_a_page_in_either_direction_takes_one_trip(
    arguments: dict[str, Any], client: httpx.AsyncClient, trips: TripCounter
) -> None:
    query = "query ($first: Int, $last: Int) { tasks(first: $first, last: $last) { nodes { id } } }"
    await client.post("/graphql", json={"query": query, "variables": arguments})
    before = trips.count

    await client.post("/graphql", json={"query": query, "variables": arguments})

    assert trips.count - before == 1  # The session with the list.


@pytest.mark.parametrize(
    ("arguments", "items"),
    [("first: 1000", 1000), ("last: 1000", 1000), ("last: $n", 900), ("first: $n", 900), ("", 50)],
)
async def test_the_limit_on_items_counts_either_direction(
    arguments: str, items: int, client: httpx.AsyncClient
) -> None:
    selected = " ".join(f"a{n}: tasks({arguments}) {{ nodes {{ id }} }}" for n in range(50))
    declared = "query ($n: Int)" if "$n" in arguments else ""
    document = f"{declared} {{ {selected.replace('()', '')} }}"

    response = await client.post("/graphql", json={"query": document, "variables": {"n": 900}})

    message = response.json().get("errors", [{"message": ""}])[0]["message"]
    assert (f"it asks for {50 * items}" in message) == (50 * items > 2500)


# --- Nodes --------------------------------------------------------------------------------


async def test_a_task_is_a_node_with_its_own_id(client: httpx.AsyncClient) -> None:
    task = (await client.get("/tasks?limit=1")).json()[0]
    query = """query ($id: ID!) {
      node(id: $id) { __typename id ... on Task { title version } }
      task(id: $id) { __typename id title version }
    }"""

    response = await client.post("/graphql", json={"query": query, "variables": {"id": task["id"]}})

    data = response.json()["data"]
    assert data["node"] == data["task"]
    assert data["node"] == {
        "__typename": "Task", "id": str(task["id"]), "title": "task 7", "version": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task_id", "code"),
    [("999999", None), ("0", None), ("viewer:ada", "VALIDATION_ERROR"), ("x", "VALIDATION_ERROR")],
)
async def test_what_is_no_task_of_yours_is_no_node(
    task_id: str, code: str | None, client: httpx.AsyncClient
) -> None:
    query = "query ($id: ID!) { node(id: $id) { id } }"

    response = await client.post("/graphql", json={"query": query, "variables": {"id": task_id}})

    errors = response.json().get("errors", [])
    assert response.json()["data"] == {"node": None}
    assert [error["extensions"]["code"] for error in errors] == ([code] if code else [])


async def test_the_viewer_and_the_budgets_have_ids_that_no_task_has(
    client: httpx.AsyncClient,
) -> None:
    query = "{ viewer { id userId reads { id } writes { id } } }"
    response = await client.post("/graphql", json={"query": query})

    assert response.json()["data"]["viewer"] == {
        "id": "viewer:ada",
        "userId": "ada",
        "reads": {"id": "reads:ada"},
        "writes": {"id": "writes:ada"},
    }


# --- Errors that can be shown -------------------------------------------------------------


async def test_the_message_says_what_is_wrong(client: httpx.AsyncClient) -> None:
    query = "mutation ($i: CreateTaskInput!) { createTask(input: $i) { id } }"
    too_long = {"title": "x" * 201, "description": "x" * 1001}

    response = await client.post("/graphql", json={"query": query, "variables": {"i": too_long}})

    [error] = response.json()["errors"]
    assert error["message"] == (
        "title: String should have at most 200 characters; "
        "description: String should have at most 1000 characters"
    )
    assert error["extensions"]["detail"] == "One or more validation errors occurred"


async def test_the_message_names_the_first_three(client: httpx.AsyncClient) -> None:
    query = "mutation ($ids: [ID!]!) { deleteTasks(ids: $ids) { notFound } }"

    response = await client.post(
        "/graphql", json={"query": query, "variables": {"ids": ["a", "b", "c", "d"]}}
    )

    [error] = response.json()["errors"]
    fields = [part.partition(":")[0] for part in error["message"].split("; ")]
    assert fields == ["ids.0", "ids.1", "ids.2"]
    assert len(error["extensions"]["errors"]) == 4


async def test_a_conflict_carries_the_version_that_the_task_is_at(
    client: httpx.AsyncClient,
) -> None:
    task = (await client.get("/tasks?limit=1")).json()[0]
    path = f"/tasks/{task['id']}"
    await client.patch(path, json={"title": "another"})

    rest = await client.patch(path, json={"title": "x"}, headers={"If-Match": '"1"'})
    query = "mutation ($id: ID!) { deleteTask(id: $id, expectedVersion: 1) { id } }"
    graphql = await client.post("/graphql", json={"query": query, "variables": {"id": task["id"]}})

    assert (rest.status_code, rest.json()["version"], rest.headers["ETag"]) == (412, 2, '"2"')
    assert graphql.json()["errors"][0]["extensions"]["version"] == 2


async def test_every_error_of_a_request_is_reported_at_once(
    client: httpx.AsyncClient,
) -> None:
    response = await client.patch(
        "/tasks/x?dry=1",
        json={"title": "", "completed": "maybe", "colour": "red"},
        headers={"If-Match": "1"},
    )

    fields = [error["field"] for error in response.json()["errors"]]
    assert response.status_code == 400
    assert fields == ["title", "completed", "colour", "dry", "If-Match", "task_id"]


@pytest.mark.parametrize("size", [1, 2, 10, 100, 20_000])
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_a_batch_is_rejected_by_as_many_errors_as_it_has_requests(
    accept: str, size: int, client: httpx.AsyncClient
) -> None:
    batch = [{"query": "{ viewer { id } }"}] * size if size <= 100 else [1] * size

    response = await client.post("/graphql", json=batch, headers={"Accept": accept})

    results = response.json()
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith(accept)
    assert len(results) == min(size, 100)
    assert {result["errors"][0]["message"] for result in results} == {
        "One request has one operation: send the operations of a batch one by one"
    }
