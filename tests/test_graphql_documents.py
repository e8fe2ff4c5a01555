"""Documents that are too large or malicious are rejected; large honest ones run."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import httpx
import pytest

from tests.graphql_client import GRAPHQL, JSON, ask, codes, lists
from tests.trips import TripCounter


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
async def test_a_hostile_document_is_rejected_in_milliseconds(
    name: str, ada_client: httpx.AsyncClient
) -> None:
    await ask(ada_client, "{ __typename }")
    began = time.process_time()

    response = await ask(ada_client, HOSTILE[name])

    assert response.status_code == 400
    assert set(codes(response)) <= {"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"}
    # Milliseconds on a machine of its own; what is excluded here is growth beyond all bounds.
    assert time.process_time() - began < 1


@pytest.mark.parametrize("levels", [19, 24, 60])
async def test_doubling_fragments_cost_no_more_than_their_text(
    levels: int, ada_client: httpx.AsyncClient
) -> None:
    response = await ask(ada_client, doubling(levels))

    assert response.status_code == 400


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
async def test_a_null_where_none_may_be_is_rejected_before_anything_runs(
    document: str, ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    response = await ask(ada_client, document, variables={"n": None})

    assert codes(response) == ["GRAPHQL_VALIDATION_FAILED"]
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


async def test_a_response_cannot_be_blown_up_by_aliases_below_the_root(
    ada_client: httpx.AsyncClient,
) -> None:
    many = " ".join(f"a{n}: nodes {{ description }}" for n in range(11))

    response = await ask(ada_client, f"{{ tasks {{ {many} }} }}")

    assert "nested aliases (10)" in response.json()["errors"][0]["message"]


WHOLE = "id userId title description completed version createdAt updatedAt"


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
    document: str, variables: dict[str, Any], ada_client: httpx.AsyncClient
) -> None:
    response = await ask(ada_client, document, variables=variables)

    assert "errors" not in response.json()


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


@pytest.mark.parametrize(("document", "variables", "items"), TOO_MUCH)
@pytest.mark.parametrize(("accept", "status"), [(GRAPHQL, 400), (JSON, 200)])
async def test_a_document_that_asks_for_too_many_tasks_is_rejected(
    document: str,
    variables: dict[str, Any],
    items: int,
    accept: str,
    status: int,
    ada_client: httpx.AsyncClient,
    trips: TripCounter,
) -> None:
    sent = {"query": document, "variables": variables}
    await ask(ada_client, "{ __typename }")
    before = trips.count

    response = await ada_client.post("/graphql", json=sent, headers={"Accept": accept})

    assert response.status_code == status
    assert codes(response) == ["GRAPHQL_VALIDATION_FAILED"]
    assert "data" not in response.json()
    assert response.json()["errors"][0]["message"] == (
        f"Document exceeds the limit on list items (2500): it asks for {items}, repetitions "
        "included."
    )
    assert trips.count - before == 1, "beside the session nothing was read"


@pytest.mark.parametrize("first", [-1, 1001, 2**31 - 1])
async def test_a_page_that_cannot_be_is_the_error_even_among_many(
    first: int, ada_client: httpx.AsyncClient
) -> None:
    many = f"{{ {lists(3, f'(first: {first})')} }}"

    response = await ask(ada_client, many)

    assert set(codes(response)) == {"VALIDATION_ERROR"}
    assert response.json()["data"] is None


async def test_an_endless_accept_header_takes_no_time(ada_client: httpx.AsyncClient) -> None:
    began = time.process_time()

    response = await ada_client.post("/graphql", json={}, headers={"Accept": "," * 1_000_000})

    assert response.status_code == 406
    assert time.process_time() - began < 0.2


async def test_a_refusal_names_the_limit(ada_client: httpx.AsyncClient) -> None:
    response = await ask(ada_client, HOSTILE["aliases"])

    assert response.json()["errors"][0]["message"] == "Document exceeds the limit on aliases (50)."


@pytest.mark.parametrize("first", [-1, 1001, 2**31 - 1])
async def test_a_page_is_bounded_also_through_variables(
    first: int, ada_client: httpx.AsyncClient
) -> None:
    response = await ask(
        ada_client, "query ($n: Int) { tasks(first: $n) { totalCount } }", variables={"n": first}
    )

    [error] = response.json()["errors"]
    assert error["extensions"]["code"] == "VALIDATION_ERROR"
    assert error["extensions"]["errors"][0]["field"] == "first"
    assert response.json()["data"] is None


async def test_the_standard_introspection_passes_the_limits(ada_client: httpx.AsyncClient) -> None:
    from graphql import get_introspection_query

    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True,
        input_value_deprecation=True,
    )  # fmt: skip

    response = await ask(ada_client, query)

    assert "errors" not in response.json()
    assert response.json()["data"]["__schema"]["queryType"]["name"] == "Query"
