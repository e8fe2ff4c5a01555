"""GraphQL over HTTP: media types, bodies, query strings, methods."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.graphql_client import GRAPHQL, JSON, ask, codes
from tests.streams import Stream


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
async def test_the_response_has_the_media_type_asked_for(
    accept: str | None, media_type: str, ada_client: httpx.AsyncClient
) -> None:
    request = ada_client.build_request("POST", "/graphql", json={"query": "{ __typename }"})
    del request.headers["Accept"]
    if accept is not None:
        request.headers["Accept"] = accept

    response = await ada_client.send(request)

    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert "Accept" in response.headers["vary"]


@pytest.mark.parametrize("accept", ["text/plain", "application/xml", f"{JSON};q=0"])
async def test_a_client_that_takes_neither_type_is_406(
    accept: str, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"Accept": accept}
    )

    assert response.status_code == 406
    assert codes(response) == ["NOT_ACCEPTABLE"]


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
    sent: dict[str, Any], code: str, accept: str, status: int, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/graphql", json=sent, headers={"Accept": accept})

    assert response.status_code == status
    assert set(codes(response)) == {code}
    assert "data" not in response.json()
    assert response.json()["extensions"]["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"1", b'"x"', b"null", b"[]", b"{}",
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
    body: bytes, accept: str, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post(
        "/graphql", content=body, headers={"Accept": accept, "Content-Type": JSON}
    )

    assert response.status_code == 400
    assert codes(response) == ["VALIDATION_ERROR"]


async def test_early_refusals_have_graphqls_shape_and_their_own_status(
    ada_client: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    json_body = {"Content-Type": JSON}

    responses = [
        await client.post("/graphql", content=b"{", headers=json_body),
        await ada_client.delete("/graphql"),
        await ada_client.put("/graphql"),
        await ada_client.post(
            "/graphql", content=b"{ __typename }", headers={"Content-Type": "text/x"}
        ),
        await ada_client.post("/graphql", content=Stream(chunks=70), headers=json_body),
        await ada_client.post("/graphql", json={}, headers={"Content-Encoding": "gzip"}),
    ]

    assert [response.status_code for response in responses] == [401, 405, 405, 415, 413, 415]
    assert [codes(response) for response in responses] == [
        ["AUTHENTICATION_ERROR"],
        ["METHOD_NOT_ALLOWED"],
        ["METHOD_NOT_ALLOWED"],
        ["UNSUPPORTED_MEDIA_TYPE"],
        ["PAYLOAD_TOO_LARGE"],
        ["UNSUPPORTED_MEDIA_TYPE"],
    ]
    assert responses[0].headers["www-authenticate"] == "Bearer"
    assert responses[1].headers["allow"] == "GET, HEAD, POST"
    for response in responses:
        error = response.json()["errors"][0]["extensions"]
        assert error["status"] == response.status_code
        assert error["request_id"] == response.headers["x-request-id"]


async def test_get_runs_queries(ada_client: httpx.AsyncClient) -> None:
    parameters = {
        "query": "query A ($n: Int) { tasks(first: $n) { totalCount } } query B { __typename }",
        "operationName": "A",
        "variables": '{"n": 1}',
    }

    response = await ada_client.get("/graphql", params=parameters)

    assert response.json()["data"] == {"tasks": {"totalCount": 0}}


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
    name: str, variables: dict[str, Any], data: set[str], ada_client: httpx.AsyncClient
) -> None:
    response = await ask(ada_client, SEVERAL, operationName=name, variables=variables)

    assert response.status_code == 200, response.text
    assert set(response.json()["data"]) == data
    assert "errors" not in response.json()


@pytest.mark.parametrize("x", [[True], {"a": True}, None, 1, "true", [[]]])
async def test_a_condition_that_is_no_boolean_is_400(x: Any, ada_client: httpx.AsyncClient) -> None:
    response = await ask(ada_client, SEVERAL, operationName="A", variables={"x": x})

    assert codes(response) == ["GRAPHQL_VALIDATION_FAILED"]


async def test_get_never_writes(ada_client: httpx.AsyncClient, sql: asyncpg.Connection) -> None:
    written = 'mutation { createTask(input: {title: "x"}) { id } }'

    response = await ada_client.get("/graphql", params={"query": written})

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["errors"][0]["message"] == "A mutation has to be sent by POST"
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


@pytest.mark.parametrize("document", ["{ __typename }", "query A { __typename }"])
async def test_an_empty_operation_name_is_none(
    document: str, ada_client: httpx.AsyncClient
) -> None:
    parameters = {"query": document, "operationName": ""}

    posted = await ada_client.post("/graphql", json=parameters)
    got = await ada_client.get("/graphql", params=parameters)

    assert [response.json()["data"] for response in (posted, got)] == [{"__typename": "Query"}] * 2


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, [("query", "Field required", "missing")]),
        ({"query": None}, [("query", "Should be a string", "string_type")]),
        ({"extensions": 1}, [("query", "Field required", "missing"),
                             ("extensions", "Should be an object", "dict_type")]),
    ],
)  # fmt: skip
async def test_a_body_without_a_document_gets_an_error_for_each_missing_part(
    sent: dict[str, Any], expected: list[tuple[str, str, str]], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/graphql", json=sent)

    [error] = response.json()["errors"]
    assert [(each["field"], each["message"], each["code"])
            for each in error["extensions"]["errors"]] == expected  # fmt: skip


async def test_a_get_asks_for_one_thing(ada_client: httpx.AsyncClient) -> None:
    twice = [("query", "{ __typename }"), ("variables", "{}")] * 2

    response = await ada_client.get("/graphql", params=[*twice, ("x", "ours"), ("x", "not")])

    [error] = response.json()["errors"]
    assert response.status_code == 400
    assert [(each["field"], each["code"]) for each in error["extensions"]["errors"]] == [
        ("query", "repeated_parameter"),
        ("variables", "repeated_parameter"),
    ]


@pytest.mark.parametrize(
    "parameters", [{}, {"query": "{ __typename }", "variables": "{"}, {"x": "1"}]
)
async def test_a_get_that_asks_nothing_is_400(
    parameters: dict[str, str], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.get("/graphql", params=parameters)

    assert response.status_code == 400
