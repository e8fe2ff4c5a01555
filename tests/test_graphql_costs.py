"""What a document costs, and which budget it is charged to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from api.app import create_app
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.graphql_client import ask, codes, lists
from tests.people import sign_in
from tests.surfaces import RestSurface


@pytest.fixture
async def paying(database_url: str, sql: asyncpg.Connection) -> AsyncIterator[Callable[[str], Any]]:
    """Sends a document in the name of someone with a full budget, and returns the response."""
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
    response = await paying(document)

    limit = {"read": 100, "write": 30}[kind]
    reported = response.json()["extensions"]["cost"]
    assert (reported["kind"], reported["requested"], reported["remaining"]) == (
        kind,
        cost,
        limit - cost,
    )
    assert response.headers["x-ratelimit-remaining"] == str(limit - cost)
    assert reported["reset"] == int(response.headers["x-ratelimit-reset"])


async def test_what_cannot_be_paid_in_full_does_not_run_at_all(
    paying: Callable[[str], Any], sql: asyncpg.Connection
) -> None:
    twenty = " ".join(f'm{n}: createTask(input: {{title: "x"}}) {{ id }}' for n in range(20))
    await paying(f"mutation {{ {twenty} }}")

    response = await paying(f"mutation {{ {twenty} }}")

    assert response.status_code == 429
    assert codes(response) == ["RATE_LIMIT_EXCEEDED"]
    assert response.json()["errors"][0]["extensions"]["rate_limit_info"]["remaining"] == 10
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 20


async def test_a_cost_above_the_limit_is_400(
    paying: Callable[[str], Any], sql: asyncpg.Connection
) -> None:
    many = " ".join(f'm{n}: createTask(input: {{title: "x"}}) {{ id }}' for n in range(31))

    response = await paying(f"mutation {{ {many} }}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["errors"][0]["code"] == "cost_above_limit"
    assert await sql.fetchval("SELECT count(*) FROM tasks") == 0


async def test_the_viewer_sees_both_budgets(paying: Callable[[str], Any]) -> None:
    await paying('mutation { createTask(input: {title: "x"}) { id } }')

    response = await paying("{ viewer { reads { limit remaining } writes { limit remaining } } }")

    assert response.json()["data"]["viewer"] == {
        "reads": {"limit": 100, "remaining": 99},
        "writes": {"limit": 30, "remaining": 29},
    }
