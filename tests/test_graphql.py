"""The GraphQL door where it is not REST's mirror: HTTP, documents, errors, cost."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import create_app
from persistence import tasks
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import sign_in
from tests.streams import Stream
from tests.surfaces import RestSurface
from tests.trips import TripCounter

GRAPHQL = "application/graphql-response+json"
JSON = "application/json"


async def ask(client: httpx.AsyncClient, query: str, **sent: Any) -> httpx.Response:
    """Send a document in the newer media type."""
    return await client.post(
        "/graphql", json={"query": query, **sent}, headers={"Accept": f"{GRAPHQL}, {JSON};q=0.9"}
    )


def codes(answer: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


async def create(client: httpx.AsyncClient, title: str = "water the plants") -> str:
    made = await ask(
        client, "mutation ($t: String!) { m: createTask(input: {title: $t}) { id } }",
        variables={"t": title},
    )  # fmt: skip
    identifier: str = made.json()["data"]["m"]["id"]
    return identifier


# Nodes, edges and budgets


async def test_both_doors_write_instants_with_the_same_bytes(
    adas: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    task_id = await create(adas)
    await sql.execute("UPDATE tasks SET created_at = '2026-01-01 12:00:00+00'")

    answer = await ask(adas, f'{{ task(id: "{task_id}") {{ createdAt updatedAt }} }}')
    rest = (await adas.get(f"/tasks/{task_id}")).json()

    assert answer.json()["data"]["task"] == {
        "createdAt": rest["created_at"],
        "updatedAt": rest["updated_at"],
    }
    assert rest["created_at"] == "2026-01-01T12:00:00.000000Z"


async def test_a_list_tells_where_it_stands(adas: httpx.AsyncClient) -> None:
    ids = [await create(adas, f"task {n}") for n in range(3)]
    page = """query ($after: String) { tasks(first: 2, after: $after) {
        edges { cursor node { id } } nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""

    first = (await ask(adas, page)).json()["data"]["tasks"]
    after = {"after": first["pageInfo"]["endCursor"]}
    second = (await ask(adas, page, variables=after)).json()["data"]["tasks"]

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


async def test_a_cursor_works_in_both_doors(adas: httpx.AsyncClient) -> None:
    for n in range(3):
        await create(adas, f"task {n}")

    page = await ask(adas, "{ tasks(first: 1) { pageInfo { endCursor } } }")
    cursor = page.json()["data"]["tasks"]["pageInfo"]["endCursor"]
    rest = await adas.get("/tasks", params={"cursor": cursor, "limit": 1})
    following = httpx.URL(rest.links["next"]["url"]).params["cursor"]
    last = await ask(adas, f'{{ tasks(after: "{following}") {{ nodes {{ title }} }} }}')

    assert [task["title"] for task in rest.json()] == ["task 1"]
    assert last.json()["data"]["tasks"]["nodes"] == [{"title": "task 0"}]


@pytest.mark.parametrize(("first", "given"), [("", 50), ("(first: null)", 50), ("(first: 3)", 3)])
async def test_a_list_without_first_has_fifty(
    first: str, given: int, adas: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT 'ada', 'x' FROM generate_series(1, 60)"
    )

    answer = await ask(adas, f"{{ tasks{first} {{ nodes {{ id }} }} }}")

    assert len(answer.json()["data"]["tasks"]["nodes"]) == given


async def test_the_viewer_is_told_who_and_until_when(adas: httpx.AsyncClient) -> None:
    answer = await ask(adas, "{ viewer { userId sessionExpiresAt writes { limit } } }")

    viewer = answer.json()["data"]["viewer"]
    assert viewer["userId"] == "ada"
    assert viewer["sessionExpiresAt"].endswith("Z")
    assert viewer["writes"] == {"limit": 30}


async def test_a_failing_field_does_not_hide_a_committed_one(
    adas: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    answer = await ask(
        adas,
        'mutation { a: createTask(input: {title: "one"}) { title } '
        'b: createTask(input: {title: ""}) { title } c: deleteTask(id: "1x") { title } }',
    )

    assert answer.status_code == 200
    assert answer.json()["data"] == {"a": {"title": "one"}, "b": None, "c": None}
    assert [error["path"] for error in answer.json()["errors"]] == [["b"], ["c"]]
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 1


@pytest.mark.parametrize("version", [0, -1, 2, 2**31 - 1])
async def test_a_version_that_is_not_the_tasks_is_refused(
    version: int, adas: httpx.AsyncClient
) -> None:
    task_id = await create(adas)
    change = f'mutation {{ updateTask(id: "{task_id}", input: {{}}, expectedVersion: {version}) '
    delete = f'mutation {{ deleteTask(id: "{task_id}", expectedVersion: {version}) '

    answers = [await ask(adas, f"{document} {{ id }} }}") for document in (change, delete)]

    assert [codes(answer) for answer in answers] == [["PRECONDITION_FAILED"]] * 2


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
        ("{ viewer { userId sessionExpiresAt } }", 0),
        ("{ __typename }", 0),
        ('mutation { createTask(input: {title: "x"}) { id } }', 1),
        ('mutation { updateTask(id: "1", input: {completed: true}) { id } }', 1),
        ('mutation { deleteTask(id: "1") { id } }', 1),
        ('mutation { deleteTasks(ids: ["1", "2"]) { deleted } }', 1),
        ("{ nope }", 0),
    ],
)
async def test_a_field_is_one_trip_beside_the_session(
    document: str, expected: int, adas: httpx.AsyncClient, trips: TripCounter
) -> None:
    for _ in range(6):
        await ask(adas, document)
    before = trips.count

    await ask(adas, document)

    assert trips.count - before == 1 + expected


# HTTP


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}, {JSON};q=0.9", GRAPHQL),
        (f"{GRAPHQL}, {JSON}, */*", GRAPHQL),
        (f"{JSON}, {GRAPHQL}", JSON),
        (f"{GRAPHQL};q=0.1, {JSON}", JSON),
        ("application/json; charset=utf-8", JSON),
        ("text/html, */*;q=0.1", JSON),
    ],
)
async def test_the_answer_has_the_media_type_asked_for(
    accept: str | None, media_type: str, adas: httpx.AsyncClient
) -> None:
    adas.headers.pop("accept")
    headers = {} if accept is None else {"Accept": accept}

    answer = await adas.post("/graphql", json={"query": "{ __typename }"}, headers=headers)

    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert "Accept" in answer.headers["vary"]


@pytest.mark.parametrize("accept", ["text/plain", "application/xml", f"{JSON};q=0"])
async def test_a_client_that_takes_neither_type_is_406(
    accept: str, adas: httpx.AsyncClient
) -> None:
    answer = await adas.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"Accept": accept}
    )

    assert answer.status_code == 406
    assert codes(answer) == ["NOT_ACCEPTABLE"]


REFUSED_DOCUMENTS = [
    ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": ""}, "GRAPHQL_PARSE_FAILED"),
    ({"query": "{ nope }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "{ a: __typename } { b: __typename }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query A { __typename } query B { __typename }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query A { __typename }", "operationName": "B"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query ($i: Int!) { tasks(first: $i) { totalCount } }"},
     "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query ($i: Int!) { tasks(first: $i) { totalCount } }", "variables": {"i": "x"}},
     "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "subscription { x }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0"}}},
     "PERSISTED_QUERY_NOT_SUPPORTED"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "code"), REFUSED_DOCUMENTS)
@pytest.mark.parametrize(("accept", "status"), [(GRAPHQL, 400), (JSON, 200)])
async def test_a_document_that_cannot_run_has_no_data(
    sent: dict[str, Any], code: str, accept: str, status: int, adas: httpx.AsyncClient
) -> None:
    answer = await adas.post("/graphql", json=sent, headers={"Accept": accept})

    assert answer.status_code == status
    assert set(codes(answer)) == {code}
    assert "data" not in answer.json()
    assert answer.json()["extensions"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"1", b'"x"', b"null", b"[]", b'[{"query": "{ __typename }"}]', b"{}",
        b'{"query": null}', b'{"query": 1}', b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "variables": "{}"}',
        b'{"query": "{ __typename }", "operationName": 1}',
        b'{"query": "{ __typename }", "extensions": 1}', b'{"extensions": 1}', b"\xff",
        b'{"query": "\\ud800"}',
        b"[" * 60_000, b'{"query": "x", "variables": {"a": NaN}}', b"1" * 20_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("accept", [GRAPHQL, JSON])
async def test_a_body_that_is_no_request_is_400(
    body: bytes, accept: str, adas: httpx.AsyncClient
) -> None:
    answer = await adas.post(
        "/graphql", content=body, headers={"Accept": accept, "Content-Type": JSON}
    )

    assert answer.status_code == 400
    assert codes(answer) == ["VALIDATION_ERROR"]


async def test_early_refusals_have_graphqls_shape_and_their_own_status(
    adas: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    json_body = {"Content-Type": JSON}

    answers = [
        await client.post("/graphql", content=b"{", headers=json_body),
        await adas.delete("/graphql"),
        await adas.put("/graphql"),
        await adas.post("/graphql", content=b"{ __typename }", headers={"Content-Type": "text/x"}),
        await adas.post("/graphql", content=Stream(chunks=70), headers=json_body),
        await adas.post("/graphql", json={}, headers={"Content-Encoding": "gzip"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 405, 405, 415, 413, 415]
    assert [codes(answer) for answer in answers] == [
        ["AUTHENTICATION_ERROR"],
        ["METHOD_NOT_ALLOWED"],
        ["METHOD_NOT_ALLOWED"],
        ["UNSUPPORTED_MEDIA_TYPE"],
        ["PAYLOAD_TOO_LARGE"],
        ["UNSUPPORTED_MEDIA_TYPE"],
    ]
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert answers[1].headers["allow"] == "GET, HEAD, POST"
    for answer in answers:
        error = answer.json()["errors"][0]["extensions"]
        assert error["status"] == answer.status_code
        assert error["request_id"] == answer.headers["x-request-id"]


async def test_get_runs_queries(adas: httpx.AsyncClient) -> None:
    asked = {
        "query": "query A ($n: Int) { tasks(first: $n) { totalCount } } query B { __typename }",
        "operationName": "A",
        "variables": '{"n": 1}',
    }

    answer = await adas.get("/graphql", params=asked)

    assert answer.json()["data"] == {"tasks": {"totalCount": 0}}


SEVERAL = """
    query A($x: Boolean!) { viewer @skip(if: $x) { userId } ...F }
    mutation B($x: [ID!]!) { deleteTasks(ids: $x) { notFound } }
    query C($x: TaskFilter) { tasks(filter: $x) { totalCount } }
    query D($x: Boolean!) { tasks(filter: {completed: $x}) { totalCount } }
    query E($x: ID!, $y: Boolean!) { task(id: $x) @include(if: $y) { id } }
    fragment F on Query { again: viewer @include(if: $x) { userId } }
"""


@pytest.mark.parametrize(
    ("name", "variables", "data"),
    [
        ("A", {"x": True}, {"again"}),
        ("A", {"x": False}, {"viewer"}),
        ("B", {"x": ["7"]}, {"deleteTasks"}),
        ("C", {"x": {"completed": True}}, {"tasks"}),
        ("C", {"x": None}, {"tasks"}),
        ("D", {"x": True}, {"tasks"}),
        ("E", {"x": "7", "y": True}, {"task"}),
        ("E", {"x": "7", "y": False}, set()),
    ],
)
async def test_operations_of_one_document_may_use_a_name_differently(
    name: str, variables: dict[str, Any], data: set[str], adas: httpx.AsyncClient
) -> None:
    answer = await ask(adas, SEVERAL, operationName=name, variables=variables)

    assert answer.status_code == 200, answer.text
    assert set(answer.json()["data"]) == data
    assert "errors" not in answer.json()


@pytest.mark.parametrize("x", [[True], {"a": True}, None, 1, "true", [[]]])
async def test_a_condition_that_is_no_boolean_is_400(x: Any, adas: httpx.AsyncClient) -> None:
    answer = await ask(adas, SEVERAL, operationName="A", variables={"x": x})

    assert codes(answer) == ["GRAPHQL_VALIDATION_FAILED"]


async def test_get_never_writes(adas: httpx.AsyncClient, sql: asyncpg.Connection) -> None:
    written = 'mutation { createTask(input: {title: "x"}) { id } }'

    answer = await adas.get("/graphql", params={"query": written})

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["errors"][0]["message"] == "A mutation has to be sent by POST"
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


@pytest.mark.parametrize("document", ["{ __typename }", "query A { __typename }"])
async def test_an_empty_operation_name_is_none(document: str, adas: httpx.AsyncClient) -> None:
    asked = {"query": document, "operationName": ""}

    posted = await adas.post("/graphql", json=asked)
    got = await adas.get("/graphql", params=asked)

    assert [answer.json()["data"] for answer in (posted, got)] == [{"__typename": "Query"}] * 2


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({}, [("query", "Field required", "missing")]),
        ({"query": None}, [("query", "Should be a string", "string_type")]),
        ({"extensions": 1}, [("query", "Field required", "missing"),
                             ("extensions", "Should be an object", "dict_type")]),
    ],
)  # fmt: skip
async def test_a_body_without_a_document_is_told_what_is_missing(
    sent: dict[str, Any], told: list[tuple[str, str, str]], adas: httpx.AsyncClient
) -> None:
    answer = await adas.post("/graphql", json=sent)

    [error] = answer.json()["errors"]
    assert [(each["field"], each["message"], each["code"])
            for each in error["extensions"]["errors"]] == told  # fmt: skip


async def test_a_get_asks_for_one_thing(adas: httpx.AsyncClient) -> None:
    twice = [("query", "{ __typename }"), ("variables", "{}")] * 2

    answer = await adas.get("/graphql", params=[*twice, ("x", "ours"), ("x", "not")])

    [error] = answer.json()["errors"]
    assert answer.status_code == 400
    assert [(each["field"], each["code"]) for each in error["extensions"]["errors"]] == [
        ("query", "repeated_parameter"),
        ("variables", "repeated_parameter"),
    ]


@pytest.mark.parametrize("asked", [{}, {"query": "{ __typename }", "variables": "{"}, {"x": "1"}])
async def test_a_get_that_asks_nothing_is_400(
    asked: dict[str, str], adas: httpx.AsyncClient
) -> None:
    answer = await adas.get("/graphql", params=asked)

    assert answer.status_code == 400


# Hostile documents


def doubling(levels: int) -> str:
    """Fragments that each spread the next one twice: 2^levels fields in a few hundred bytes."""
    fragments = "".join(
        f"fragment F{n} on Query {{ a{n}: __typename ...F{n + 1} ...F{n + 1} }} "
        for n in range(levels)
    )
    return f"{{ ...F0 }} {fragments} fragment F{levels} on Query {{ __typename }}"


HOSTILE: dict[str, str] = {
    "deep": "{ tasks { edges { node " + "{ id " * 60 + "}" * 60 + " } } }",
    "very deep": "{ a " * 5_000,
    "deep lists": "{ tasks(first: " + "[" * 5_000 + "]" * 5_000 + ") { totalCount } }",
    "aliases": "{ " + " ".join(f"a{n}: __typename" for n in range(60)) + " }",
    "tokens": "{ " + "__typename " * 1_001 + "}",
    "comments": "{ __typename }" + "#\n" * 15_000,
    "definitions": " ".join(f"query Q{n} {{ __typename }}" for n in range(21)),
    "doubling fragments": doubling(18),
    "circular fragments": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "self-circular": "{ ...A } fragment A on Query { ...A }",
    "directives": "{ __typename " + "@include(if: true) " * 150 + "}",
    "unknown directives": "{ __typename " + "@x " * 400 + "}",
    "conflicting fields": "{ "
    + " ".join(f"t: tasks(first: {n}) {{ totalCount }}" for n in range(1, 90))
    + " }",
    "unknown fields": "{ " + " ".join(f"x{n}" for n in range(900)) + " }",
    "repeated values": 'mutation { createTask(input: {title: "'
    + "Did you mean  cannot represent Value ' " * 300
    + '", '
    + " ".join(f"x{n}: 1" for n in range(300))
    + "}) { id } }",
    "variables": "query (" + " ".join(f"$v{n}: Int" for n in range(300)) + ") { __typename }",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_in_milliseconds(
    name: str, adas: httpx.AsyncClient
) -> None:
    await ask(adas, "{ __typename }")
    began = time.process_time()

    answer = await ask(adas, HOSTILE[name])

    assert answer.status_code == 400
    assert set(codes(answer)) <= {"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"}
    # Milliseconds on a machine of its own; what is excluded here is growth beyond all bounds.
    assert time.process_time() - began < 1


@pytest.mark.parametrize("levels", [19, 24, 60])
async def test_doubling_fragments_cost_no_more_than_their_text(
    levels: int, adas: httpx.AsyncClient
) -> None:
    answer = await ask(adas, doubling(levels))

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "document",
    [
        "mutation ($n: Boolean = true) "
        '{ createTask(input: {title: "x"}) { id @include(if: $n) title } }',
        'query ($n: ID = "1") { task(id: $n) { id } }',
        "query ($n: Boolean = true) { viewer @skip(if: $n) { userId } }",
        'mutation ($n: String = "x") { createTask(input: {title: $n}) { id } }',
    ],
)
async def test_a_null_where_none_may_be_is_refused_before_anything_runs(
    document: str, adas: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    answer = await ask(adas, document, variables={"n": None})

    assert codes(answer) == ["GRAPHQL_VALIDATION_FAILED"]
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


async def test_an_answer_cannot_be_blown_up_by_aliases_below_the_root(
    adas: httpx.AsyncClient,
) -> None:
    many = " ".join(f"a{n}: nodes {{ description }}" for n in range(11))

    answer = await ask(adas, f"{{ tasks {{ {many} }} }}")

    assert "nested aliases (10)" in answer.json()["errors"][0]["message"]


WHOLE = "id userId title description completed version createdAt updatedAt"


def lists(count: int, arguments: str = "", selected: str = "nodes { title }") -> str:
    return " ".join(f"t{n}: tasks{arguments} {{ {selected} }}" for n in range(count))


ENOUGH: list[tuple[str, dict[str, Any]]] = [
    (f"{{ tasks(first: 1000) {{ nodes {{ {WHOLE} }} edges {{ cursor node {{ {WHOLE} }} }} }} }}",
     {}),
    (f"{{ {lists(50, '', f'nodes {{ {WHOLE} }}')} }}", {}),
    (f"{{ {lists(50, '(first: null)')} }}", {}),
    (f"{{ {lists(2, '(first: 1000)')} u: tasks(first: 500) {{ totalCount }} }}", {}),
    (f"query ($n: Int) {{ {lists(25, '(first: $n)')} }}", {"n": 100}),
    (f"query ($n: Int) {{ {lists(50, '(first: $n)')} }}", {"n": None}),
    (f"query ($n: Int) {{ {lists(50, '(first: $n)')} }}", {}),
    (f"query ($n: Int = 50) {{ {lists(50, '(first: $n)')} }}", {}),
    (f"{{ {lists(3, '(first: 1000) @skip(if: true)')} tasks {{ totalCount }} }}", {}),
    ("{ tasks(first: 250) { a: pageInfo { endCursor } nodes { "
     + " ".join(f"{name}: title" for name in "bcdefghij") + " title } } }", {}),
]  # fmt: skip


@pytest.mark.parametrize(("document", "variables"), ENOUGH, ids=lambda value: str(value)[:40])
async def test_a_document_may_ask_for_so_many_tasks(
    document: str, variables: dict[str, Any], adas: httpx.AsyncClient
) -> None:
    answer = await ask(adas, document, variables=variables)

    assert "errors" not in answer.json()


TOO_MUCH: list[tuple[str, dict[str, Any], int]] = [
    (f"{{ {lists(47, '(first: 1000)', '...L')} }} fragment L on TaskConnection "
     f"{{ nodes {{ {WHOLE} }} edges {{ node {{ {WHOLE} }} }} }}", {}, 94_000),
    (f"{{ {lists(50, '(first: 1000)', '__typename')} }}", {}, 50_000),
    (f"{{ {lists(49)} tasks(first: 51) {{ totalCount }} }}", {}, 2_501),
    (f"{{ {lists(3, '(first: 1000)')} }}", {}, 3_000),
    (f"{{ ...L }} fragment L on Query {{ {lists(3, '(first: 1000)')} }}", {}, 3_000),
    (f"query ($n: Int) {{ {lists(26, '(first: $n)')} }}", {"n": 100}, 2_600),
    (f"query ($n: Int = 100) {{ {lists(26, '(first: $n)')} }}", {}, 2_600),
    (f"query ($n: Boolean!) {{ {lists(3, '(first: 1000) @include(if: $n)')} }}", {"n": True},
     3_000),
    ("{ tasks(first: 1000) { nodes { a: description b: description description } } }", {}, 3_000),
    ("{ tasks(first: 1000) { a: nodes { ...T } b: nodes { ...T } edges { node { ...T } } } } "
     "fragment T on Task { title }", {}, 3_000),
]  # fmt: skip


@pytest.mark.parametrize(("document", "variables", "asked"), TOO_MUCH)
@pytest.mark.parametrize(("accept", "status"), [(GRAPHQL, 400), (JSON, 200)])
async def test_a_document_that_asks_for_too_many_tasks_is_refused(
    document: str,
    variables: dict[str, Any],
    asked: int,
    accept: str,
    status: int,
    adas: httpx.AsyncClient,
    trips: TripCounter,
) -> None:
    sent = {"query": document, "variables": variables}
    await ask(adas, "{ __typename }")
    before = trips.count

    answer = await adas.post("/graphql", json=sent, headers={"Accept": accept})

    assert answer.status_code == status
    assert codes(answer) == ["GRAPHQL_VALIDATION_FAILED"]
    assert "data" not in answer.json()
    assert answer.json()["errors"][0]["message"] == (
        f"Document exceeds the limit on list items (2500): it asks for {asked}, repetitions "
        "included."
    )
    assert trips.count - before == 1, "beside the session nothing was read"


@pytest.mark.parametrize("first", [0, -1, 1001, 2**31 - 1])
async def test_a_page_that_cannot_be_is_the_error_even_among_many(
    first: int, adas: httpx.AsyncClient
) -> None:
    many = f"{{ {lists(3, f'(first: {first})')} }}"

    answer = await ask(adas, many)

    assert set(codes(answer)) == {"VALIDATION_ERROR"}
    assert answer.json()["data"] is None


async def test_an_endless_accept_header_takes_no_time(adas: httpx.AsyncClient) -> None:
    began = time.process_time()

    answer = await adas.post("/graphql", json={}, headers={"Accept": "," * 1_000_000})

    assert answer.status_code == 406
    assert time.process_time() - began < 0.2


async def test_a_refusal_names_the_limit(adas: httpx.AsyncClient) -> None:
    answer = await ask(adas, HOSTILE["aliases"])

    assert answer.json()["errors"][0]["message"] == "Document exceeds the limit on aliases (50)."


@pytest.mark.parametrize("first", [0, -1, 1001, 2**31 - 1])
async def test_a_page_is_bounded_also_through_variables(
    first: int, adas: httpx.AsyncClient
) -> None:
    answer = await ask(
        adas, "query ($n: Int) { tasks(first: $n) { totalCount } }", variables={"n": first}
    )

    [error] = answer.json()["errors"]
    assert error["extensions"]["code"] == "VALIDATION_ERROR"
    assert error["extensions"]["errors"][0]["field"] == "first"
    assert answer.json()["data"] is None


async def test_the_standard_introspection_passes_the_limits(adas: httpx.AsyncClient) -> None:
    from graphql import get_introspection_query

    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True,
        input_value_deprecation=True,
    )  # fmt: skip

    answer = await ask(adas, query)

    assert "errors" not in answer.json()
    assert answer.json()["data"]["__schema"]["queryType"]["name"] == "Query"


# Errors


async def test_a_defect_is_logged_once_and_masked(
    adas: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(tasks, "get", broken)

    answer = await ask(adas, '{ task(id: "1") { id } }')

    assert answer.status_code == 200
    assert codes(answer) == ["INTERNAL_ERROR"]
    assert "secret" not in answer.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert answer.headers["x-request-id"] in record.getMessage()


async def test_a_row_that_breaks_the_schema_is_masked_too(
    adas: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        return tasks.Task(1, "ada", None, None, None, 1, None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "get", broken)

    answer = await ask(adas, '{ task(id: "1") { id title } }')

    assert answer.json()["data"] == {"task": None}
    assert codes(answer) == ["INTERNAL_ERROR"]


async def test_an_unavailable_database_is_503_before_and_an_error_while_running(
    without_database: httpx.AsyncClient,
) -> None:
    answer = await ask(without_database, "{ __typename }")

    assert answer.status_code == 503
    assert codes(answer) == ["SERVICE_UNAVAILABLE"]
    assert answer.headers["retry-after"]


async def test_validation_errors_name_fields_as_graphql_spells_them(
    adas: httpx.AsyncClient,
) -> None:
    answer = await ask(
        adas,
        'mutation { deleteTasks(ids: ["1", "x"]) { deleted } '
        'updateTask(id: "1", input: {title: null}) { id } }',
    )

    fields = [error["extensions"]["errors"][0]["field"] for error in answer.json()["errors"]]
    assert fields == ["ids.1", "title"]


# Cost


@pytest.fixture
async def paying(database_url: str, sql: asyncpg.Connection) -> AsyncIterator[Callable[[str], Any]]:
    """Sends a document in the name of someone with a full budget, and returns the answer."""
    app = create_app(settings_of_tests(database_url=database_url, rate_limit_enabled=True))
    async with app.router.lifespan_context(app), new_client(app) as client:
        zoe = await sign_in(sql, RestSurface(client), "zoe", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {zoe.token}"
        yield lambda query, **sent: ask(client, query, **sent)


@pytest.mark.parametrize(
    ("document", "kind", "cost"),
    [
        ("{ viewer { userId } }", "read", 1),
        ("{ a: viewer { userId } b: viewer { userId } tasks { totalCount } }", "read", 3),
        ("{ viewer { userId } viewer { sessionExpiresAt } }", "read", 1),
        ("{ ...F } fragment F on Query { a: viewer { userId } b: viewer { userId } }", "read", 2),
        ("{ a: viewer { userId } b: viewer @skip(if: true) { userId } }", "read", 1),
        ("query ($n: Boolean = false) { viewer @include(if: $n) { userId } }", "read", 1),
        ("{ __schema { queryType { name } } __typename }", "read", 1),
        ("{ nope }", "read", 1),
        ("{", "read", 1),
        (f"{{ {lists(3, '(first: 1000)')} }}", "read", 1),
        ('mutation { createTask(input: {title: "x"}) { id } }', "write", 1),
        ('mutation { a: deleteTask(id: "1") { id } b: deleteTask(id: "x") { id } }', "write", 2),
    ],
)
async def test_a_document_costs_its_root_fields(
    document: str, kind: str, cost: int, paying: Callable[[str], Any]
) -> None:
    answer = await paying(document)

    limit = {"read": 100, "write": 30}[kind]
    told = answer.json()["extensions"]["cost"]
    assert (told["kind"], told["requested"], told["remaining"]) == (kind, cost, limit - cost)
    assert answer.headers["x-ratelimit-remaining"] == str(limit - cost)
    assert told["reset"] == int(answer.headers["x-ratelimit-reset"])


async def test_what_cannot_be_paid_in_full_does_not_run_at_all(
    paying: Callable[[str], Any], sql: asyncpg.Connection
) -> None:
    twenty = " ".join(f'm{n}: createTask(input: {{title: "x"}}) {{ id }}' for n in range(20))
    await paying(f"mutation {{ {twenty} }}")

    answer = await paying(f"mutation {{ {twenty} }}")

    assert answer.status_code == 429
    assert codes(answer) == ["RATE_LIMIT_EXCEEDED"]
    assert answer.json()["errors"][0]["extensions"]["rate_limit_info"]["remaining"] == 10
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 20


async def test_a_cost_above_the_limit_is_400(
    paying: Callable[[str], Any], sql: asyncpg.Connection
) -> None:
    many = " ".join(f'm{n}: createTask(input: {{title: "x"}}) {{ id }}' for n in range(31))

    answer = await paying(f"mutation {{ {many} }}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["errors"][0]["code"] == "cost_above_limit"
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


async def test_the_viewer_sees_both_budgets(paying: Callable[[str], Any]) -> None:
    await paying('mutation { createTask(input: {title: "x"}) { id } }')

    answer = await paying("{ viewer { reads { limit remaining } writes { limit remaining } } }")

    assert answer.json()["data"]["viewer"] == {
        "reads": {"limit": 100, "remaining": 99},
        "writes": {"limit": 30, "remaining": 29},
    }


# Production


@pytest.fixture
async def production(
    database_url: str, sql: asyncpg.Connection
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an instance as users meet it."""
    settings = settings_of_tests(
        environment="production",
        database_url=database_url,
        redis_url="redis://127.0.0.1:1",
        cors_origins=["https://app.example.com"],
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        vera = await sign_in(sql, RestSurface(client), "vera", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {vera.token}"
        yield client


@pytest.mark.parametrize(
    ("sent", "hidden"),
    [
        ({"query": "{ __schema { types { name } } }"}, "TaskConnection"),
        ({"query": '{ __type(name: "Task") { name } }'}, "Did you mean"),
        ({"query": "{ task { id } }"}, "Did you mean"),
        ({"query": "{ tsks { id } }"}, "tasks"),
        ({"query": '{ tasks(frist: 1) { totalCount } }'}, "first"),
        ({"query": 'mutation { createTask(input: {titel: "s3cret", title: "x"}) { id } }'},
         "Did you mean"),
        ({"query": '{ tasks(first: "s3cret") { totalCount } }'}, "s3cret"),
        ({"query": "query ($n: Int) { tasks(first: $n) { totalCount } }",
          "variables": {"n": "s3cret"}}, "s3cret"),
        ({"query": "query ($i: CreateTaskInput!) { __typename }", "variables": {"i": "s3cret"}},
         "s3cret"),
    ],
)  # fmt: skip
async def test_production_neither_describes_nor_suggests_nor_echoes(
    sent: dict[str, Any], hidden: str, production: httpx.AsyncClient
) -> None:
    answer = await production.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    assert answer.status_code == 400
    assert hidden not in json.dumps(answer.json()["errors"])


CREATE = "mutation ($v: CreateTaskInput!) { createTask(input: $v) { id } }"
READ = "query ($v: ID!) { task(id: $v) { id } }"
LIST = "query ($v: Int) { tasks(first: $v) { totalCount } }"
DELETE = "mutation ($v: [ID!]!) { deleteTasks(ids: $v) { deleted } }"
NOT_AN_ID = "ID cannot represent a non-string and non-integer value."
UNKNOWN = "Expected value of type 'CreateTaskInput' not to include unknown field"
INCOMPLETE = "Expected value of type 'CreateTaskInput' to include required field 'title'."

SAID_OF_VARIABLES: list[tuple[str, Any, str]] = [
    (CREATE, None, ": Expected value of non-null type 'CreateTaskInput!' not to be null."),
    (CREATE, "s3cret", ": Expected value of type 'CreateTaskInput' to be an object."),
    (CREATE, [{"title": "s3cret"}], ": Expected value of type 'CreateTaskInput' to be an object."),
    (CREATE, {"description": "s3cret"}, f": {INCOMPLETE}"),
    (CREATE, {"title": None}, " at .title: Expected value of non-null type 'String!' not to be "
     "null."),
    (CREATE, {"title": ["s3cret"]}, " at .title: String cannot represent a non string value."),
    (CREATE, {"title": "s3cret", "descripton": None}, f": {UNKNOWN} 'descripton'."),
    (CREATE, {"title": "s3cret", "a b', found: {": 1}, f": {UNKNOWN}s."),
    (CREATE, {"title": "s3cret", "a', found: {": 1}, f": {UNKNOWN} 'a'."),
    (CREATE, {"title": "s3cret", "": 1}, f": {UNKNOWN}s."),
    (CREATE, {"title": "s3cret", "x" * 9000: 1}, f": {UNKNOWN} '{'x' * 60}…'."),
    (CREATE, {"title": "a", "completed": "s3cret"},
     " at .completed: Boolean cannot represent a non boolean value."),
    (CREATE, {"title": "a", "completed": {"s3cret": True}},
     " at .completed: Boolean cannot represent a non boolean value."),
    (READ, True, f": {NOT_AN_ID}"),
    (READ, 5551234.5, f": {NOT_AN_ID}"),
    (READ, ["s3cret"], f": {NOT_AN_ID}"),
    (READ, {"s3cret": "Did you mean 's3cret'? Found: unknown field 's 3'"}, f": {NOT_AN_ID}"),
    (DELETE, ["1", None], " at [1]: Expected value of non-null type 'ID!' not to be null."),
    (DELETE, [False], f" at [0]: {NOT_AN_ID}"),
    (LIST, "s3cret, found: 's3cret'", ": Int cannot represent non-integer value."),
    (LIST, True, ": Int cannot represent non-integer value."),
    (LIST, 5551234000, ": Int cannot represent non 32-bit signed integer value."),
]  # fmt: skip

NOT_A_NAME = "Syntax Error: Expected Name, found"
BAD_ESCAPE = "Syntax Error: Invalid Unicode escape sequence."

SAID_OF_DOCUMENTS: list[tuple[str, str]] = [
    ("{ task(id: null) { id } }", "Expected value of non-null type 'ID!' not to be null."),
    ("{ task(id: tok_s3cret) { id } }", NOT_AN_ID),
    ("{ task(id: true) { id } }", NOT_AN_ID),
    ('{ task(id: {a: "s3cret"}) { id } }', NOT_AN_ID),
    ('{ task(id: ["s3cret"]) { id } }', NOT_AN_ID),
    ("{ task(id: 5551234.5) { id } }", NOT_AN_ID),
    ("{ tasks(first: s3cret) { totalCount } }", "Int cannot represent non-integer value."),
    ("{ tasks(first: 5551234000) { totalCount } }",
     "Int cannot represent non 32-bit signed integer value."),
    (f"{{ tasks(first: {'5551234' * 700}) {{ totalCount }} }}", "Expected value of type 'Int'."),
    (f"query ($v: Int = {'5551234' * 700}) {{ tasks(first: $v) {{ totalCount }} }}",
     "Expected value of type 'Int'."),
    ("query ($v: Int! = null) { tasks(first: $v) { totalCount } }",
     "Expected value of non-null type 'Int!' not to be null."),
    ("{ tasks(after: 5551234) { totalCount } }", "String cannot represent a non string value."),
    ('{ tasks(filter: "s3cret") { totalCount } }',
     "Expected value of type 'TaskFilter' to be an object."),
    ("{ tasks(filter: {completed: s3cret}) { totalCount } }",
     "Boolean cannot represent a non boolean value."),
    ('{ viewer @skip(if: "s3cret") { userId } }', "Boolean cannot represent a non boolean value."),
    ('mutation { createTask(input: {title: """\\n\ns3cret""", titel: 1}) { id } }',
     f"{UNKNOWN} 'titel'."),
    ('mutation { createTask(input: {description: "s3cret"}) { id } }', INCOMPLETE),
    ("query ($v: __TypeKind = s3cret) { __typename @skip(if: $v) }",
     "The value does not exist in '__TypeKind' enum."),
    ('query ($v: __TypeKind = "s3cret") { __typename @skip(if: $v) }',
     "Enum '__TypeKind' cannot represent non-enum value."),
    ('{ task("s3cret Int \\"5551234") { id } }', f"{NOT_A_NAME} String."),
    ('{ task("""s3cret Int \'5551234\'""") { id } }', f"{NOT_A_NAME} BlockString."),
    ("{ task(id: [] 5551234) { id } }", f"{NOT_A_NAME} Int."),
    ("{ task(5551234.5) { id } }", f"{NOT_A_NAME} Float."),
    ('"s3cret" "s3cret"', "Syntax Error: Unexpected String."),
    ('{ task(id: "s3cret) { id } }', "Syntax Error: Unterminated string."),
    ('{ task(id: "\\us3cr") { id } }', BAD_ESCAPE),
    ('{ task(id: "\\u{5551234}") { id } }', BAD_ESCAPE),
    ('{ task(id: "\\s3cret") { id } }', "Syntax Error: Invalid character escape sequence."),
    ("{ task(id: .5551234) { id } }",
     "Syntax Error: Invalid number, expected digit before '.'."),
    ("{ task(id: 's3cret') { id } }", "Syntax Error: Unexpected single quote character ('), "
     'did you mean to use a double quote (")?'),
    ("{ task(id: tok-s3cret) { id } }",
     "Syntax Error: Invalid number, expected digit but got: 's'."),
    (f"{{ {'x' * 9000} }}", f"Cannot query field '{'x' * 60}…' on type 'Query'."),
    ("{ a: task(id: s3cret) { id } a: task(id: s4cret) { id } }", "Fields 'a' conflict because "
     "they have differing arguments. Use different aliases on the fields to fetch both if this "
     "was intentional."),
]  # fmt: skip

SAID: list[tuple[dict[str, Any], str]] = [
    *(({"query": document, "variables": {"v": value}}, f"Variable '$v' has invalid value{said}")
      for document, value, said in SAID_OF_VARIABLES),
    *(({"query": document}, said) for document, said in SAID_OF_DOCUMENTS),
    ({"query": CREATE, "variables": {}}, "Variable '$v' has invalid value: Expected a value of "
     "non-null type 'CreateTaskInput!' to be provided."),
    ({"query": "query A { __typename }", "operationName": "s3cret"},
     "The document has no operation of the given name."),
]  # fmt: skip

UNSPEAKABLE = re.compile(
    r"s3cret|s4cret|5551234|\b(?:None|True|False|sys|Undefined)\b|Traceback|error '|[fF]ound:"
)


@pytest.mark.parametrize(("sent", "said"), SAID)
async def test_a_message_is_a_sentence_without_the_value_it_is_about(
    sent: dict[str, Any], said: str, production: httpx.AsyncClient
) -> None:
    answer = await production.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    messages = [error["message"] for error in answer.json()["errors"]]
    assert said in messages
    assert not [each for each in messages if not each.endswith((".", "?"))]
    assert not UNSPEAKABLE.search(answer.text)


@pytest.mark.parametrize(("sent", "said"), SAID)
async def test_a_developer_is_told_the_same_and_suggestions(
    sent: dict[str, Any], said: str, adas: httpx.AsyncClient
) -> None:
    answer = await adas.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    messages = [error["message"] for error in answer.json()["errors"]]
    assert said in [re.sub(r"(?<=\.) Did you mean .*\?$", "", each) for each in messages]
    assert not UNSPEAKABLE.search(answer.text)


async def test_production_has_no_page_for_browsers(production: httpx.AsyncClient) -> None:
    page = await production.get("/graphql", headers={"Accept": "text/html, */*;q=0.8"})
    asset = await production.get("/graphql/assets/main.js")

    assert (page.status_code, asset.status_code) == (400, 404)
