"""GraphQL where it differs from REST: connections, partial results, round trips, masked errors."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from persistence import tasks
from tests.graphql_client import ask, codes
from tests.log_lines import LogLines
from tests.trips import TripCounter


async def create(client: httpx.AsyncClient, title: str = "water the plants") -> str:
    made = await ask(
        client, "mutation ($t: String!) { m: createTask(input: {title: $t}) { id } }",
        variables={"t": title},
    )  # fmt: skip
    identifier: str = made.json()["data"]["m"]["id"]
    return identifier


# Nodes, edges and budgets


async def test_both_protocols_write_instants_with_the_same_bytes(
    ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    task_id = await create(ada_client)
    await sql.execute("UPDATE tasks SET created_at = '2026-01-01 12:00:00+00'")

    response = await ask(ada_client, f'{{ task(id: "{task_id}") {{ createdAt updatedAt }} }}')
    rest = (await ada_client.get(f"/tasks/{task_id}")).json()

    assert response.json()["data"]["task"] == {
        "createdAt": rest["created_at"],
        "updatedAt": rest["updated_at"],
    }
    assert rest["created_at"] == "2026-01-01T12:00:00.000000Z"


async def test_a_list_tells_where_it_stands(ada_client: httpx.AsyncClient) -> None:
    ids = [await create(ada_client, f"task {n}") for n in range(3)]
    page = """query ($after: String) { tasks(first: 2, after: $after) {
        edges { cursor node { id } } nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""

    first = (await ask(ada_client, page)).json()["data"]["tasks"]
    after = {"after": first["pageInfo"]["endCursor"]}
    second = (await ask(ada_client, page, variables=after)).json()["data"]["tasks"]

    assert [edge["node"] for edge in first["edges"]] == first["nodes"]
    assert [node["id"] for node in first["nodes"] + second["nodes"]] == ids[::-1]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][1]["cursor"],
    }
    assert (second["pageInfo"]["hasNextPage"], second["pageInfo"]["hasPreviousPage"]) == (
        False,
        True,
    )
    assert (first["totalCount"], second["totalCount"]) == (3, 3)


async def test_a_cursor_works_in_both_protocols(ada_client: httpx.AsyncClient) -> None:
    for n in range(3):
        await create(ada_client, f"task {n}")

    page = await ask(ada_client, "{ tasks(first: 1) { pageInfo { endCursor } } }")
    cursor = page.json()["data"]["tasks"]["pageInfo"]["endCursor"]
    rest = await ada_client.get("/tasks", params={"cursor": cursor, "limit": 1})
    following = httpx.URL(rest.links["next"]["url"]).params["cursor"]
    last = await ask(ada_client, f'{{ tasks(after: "{following}") {{ nodes {{ title }} }} }}')

    assert [task["title"] for task in rest.json()] == ["task 1"]
    assert last.json()["data"]["tasks"]["nodes"] == [{"title": "task 0"}]


@pytest.mark.parametrize(("first", "given"), [("", 50), ("(first: null)", 50), ("(first: 3)", 3)])
async def test_a_list_without_first_has_fifty(
    first: str, given: int, ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT 'ada', 'x' FROM generate_series(1, 60)"
    )

    response = await ask(ada_client, f"{{ tasks{first} {{ nodes {{ id }} }} }}")

    assert len(response.json()["data"]["tasks"]["nodes"]) == given


async def test_the_viewer_reports_the_user_and_the_end_of_the_session(
    ada_client: httpx.AsyncClient,
) -> None:
    response = await ask(ada_client, "{ viewer { userId sessionExpiresAt writes { limit } } }")

    viewer = response.json()["data"]["viewer"]
    assert viewer["userId"] == "ada"
    assert viewer["sessionExpiresAt"].endswith("Z")
    assert viewer["writes"] == {"limit": 30}


async def test_a_failing_field_does_not_hide_a_committed_one(
    ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    response = await ask(
        ada_client,
        'mutation { a: createTask(input: {title: "one"}) { title } '
        'b: createTask(input: {title: ""}) { title } c: deleteTask(id: "1x") { title } }',
    )

    assert response.status_code == 200
    assert response.json()["data"] == {"a": {"title": "one"}, "b": None, "c": None}
    assert [error["path"] for error in response.json()["errors"]] == [["b"], ["c"]]
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 1


@pytest.mark.parametrize("version", [0, -1, 2, 2**31 - 1])
async def test_a_version_that_is_not_the_tasks_is_refused(
    version: int, ada_client: httpx.AsyncClient
) -> None:
    task_id = await create(ada_client)
    change = f'mutation {{ updateTask(id: "{task_id}", input: {{}}, expectedVersion: {version}) '
    delete = f'mutation {{ deleteTask(id: "{task_id}", expectedVersion: {version}) '

    responses = [await ask(ada_client, f"{document} {{ id }} }}") for document in (change, delete)]

    assert [codes(response) for response in responses] == [["PRECONDITION_FAILED"]] * 2


# Round trips


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{ tasks { nodes { id title } } }", 1),
        ("{ tasks { edges { cursor node { id } } pageInfo { endCursor } } }", 1),
        ("{ tasks { totalCount } }", 2),
        (f"{{ tasks {{ {' '.join(f'c{n}: totalCount' for n in range(10))} }} }}", 2),
        ("{ a: tasks { totalCount } b: tasks(first: 1) { totalCount } }", 3),
        ("{ a: tasks { totalCount } b: tasks(filter: {completed: true}) { totalCount } }", 4),
        ('{ task(id: "1") { id } }', 1),
        ('{ a: task(id: "1") { id } b: task(id: "2") { id } }', 2),
        ("{ viewer { userId sessionExpiresAt } }", 1),
        ("{ __typename }", 1),
        ('mutation { createTask(input: {title: "x"}) { id } }', 2),
        ('mutation { updateTask(id: "1", input: {completed: true}) { id } }', 2),
        ('mutation { deleteTask(id: "1") { id } }', 2),
        ('mutation { deleteTasks(ids: ["1", "2"]) { deleted } }', 2),
        ("{ nope }", 1),
    ],
)
async def test_a_field_is_one_trip_and_the_session_another_for_writes(
    document: str, expected: int, ada_client: httpx.AsyncClient, trips: TripCounter
) -> None:
    # Concurrent fields share out the connections anew each time; one that has not run a statement
    # yet prepares it first.
    counts = []
    for _ in range(12):
        before = trips.count
        await ask(ada_client, document)
        counts.append(trips.count - before)

    assert min(counts) == expected, counts
    assert counts.count(expected) > len(counts) / 2, counts


# Errors


async def test_a_defect_is_logged_once_and_masked(
    ada_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = LogLines(capfd)

    async def broken(*_: Any) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(tasks, "get", broken)

    response = await ask(ada_client, '{ task(id: "1") { id } }')

    assert response.status_code == 200
    assert codes(response) == ["INTERNAL_ERROR"]
    assert "secret" not in response.text
    [line] = log.all()
    assert (line["level"], line["request_id"]) == ("error", response.headers["x-request-id"])
    assert line["exception"].startswith("builtins.RuntimeError")


async def test_a_row_that_breaks_the_schema_is_masked_too(
    ada_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        return tasks.Task(1, "ada", None, None, None, 1, None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "get", broken)

    response = await ask(ada_client, '{ task(id: "1") { id title } }')

    assert response.json()["data"] == {"task": None}
    assert codes(response) == ["INTERNAL_ERROR"]


async def test_an_unavailable_database_is_503_before_and_an_error_while_running(
    without_database: httpx.AsyncClient,
) -> None:
    response = await ask(without_database, "{ __typename }")

    assert response.status_code == 503
    assert codes(response) == ["SERVICE_UNAVAILABLE"]
    assert response.headers["retry-after"]


async def test_validation_errors_name_fields_as_graphql_spells_them(
    ada_client: httpx.AsyncClient,
) -> None:
    response = await ask(
        ada_client,
        'mutation { deleteTasks(ids: ["1", "x"]) { deleted } '
        'updateTask(id: "1", input: {title: null}) { id } }',
    )

    fields = [error["extensions"]["errors"][0]["field"] for error in response.json()["errors"]]
    assert fields == ["ids.1", "title"]
