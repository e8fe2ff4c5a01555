"""Documents of people who have nothing left, and documents that ask for one thing many times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.charges import Charge, Cost, Kind, WindowState
from api.errors import BudgetExceeded
from api.rate_limit.budget import Budget
from graphql_schema.compiled import CompiledSchema
from tests.graphql_client import ask


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No document may be prepared."""
    prepared: list[str] = []
    monkeypatch.setattr(CompiledSchema, "prepare", lambda self, text: prepared.append(text))
    yield
    assert prepared == []


@pytest.mark.usefixtures("unparsed")
async def test_a_mutation_by_get_is_refused_before_it_is_parsed(
    ada_client: httpx.AsyncClient,
) -> None:
    written = "query A { nope } mutation B { nope"

    response = await ada_client.get(
        "/graphql", params={"query": written + " }", "operationName": "B"}
    )

    assert response.status_code == 405
    assert "x-ratelimit-limit" not in response.headers


@pytest.fixture
def known(spent_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> set[Kind]:
    """The kinds of which it is known that Ada has nothing left."""
    spent: set[Kind] = set()
    real = Budget.spend

    async def spend(self: Budget, payer: str, cost: Cost, *rest: Any) -> Charge | None:
        try:
            return await real(self, payer, cost, *rest)
        except BudgetExceeded as error:
            errors[cost.kind] = error
            raise

    def require_funds(self: Budget, payer: str, kind: Kind) -> None:
        if kind in spent:
            raise errors[kind]

    errors: dict[Kind, BudgetExceeded] = {}
    monkeypatch.setattr(Budget, "spend", spend)
    monkeypatch.setattr(Budget, "require_funds", require_funds)
    return spent


SPENT = [("{ nope", Kind.READ), ("mutation { nope", Kind.WRITE), ("nope", Kind.READ)]


@pytest.mark.parametrize(("document", "kind"), SPENT)
async def test_a_spent_budget_is_refused_before_parsing(
    document: str,
    kind: Kind,
    known: set[Kind],
    spent_client: httpx.AsyncClient,
    request: pytest.FixtureRequest,
) -> None:
    closed = f"{document} }}" if "{" in document else document
    valid = {"read": "{ __typename }", "write": 'mutation { deleteTask(id: "1") { id } }'}[kind]
    control = await ask(spent_client, valid)
    known.add(kind)
    request.getfixturevalue("unparsed")

    response = await ask(spent_client, closed)

    assert (control.status_code, response.status_code) == (429, 429)
    assert response.json()["extensions"]["cost"]["kind"] == kind
    assert response.headers["retry-after"]


async def test_a_mutation_that_fails_costs_a_write_when_reads_are_spent(
    known: set[Kind], spent_client: httpx.AsyncClient
) -> None:
    await ask(spent_client, "{ __typename }")
    known.add(Kind.READ)

    response = await ask(spent_client, "mutation { nope }")

    assert response.status_code == 429
    assert response.json()["extensions"]["cost"]["kind"] == "write"


async def test_a_budget_is_asked_for_once_a_request(
    ada_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Kind] = []
    real = Budget.look

    async def look(self: Budget, payer: str, kind: Kind, *rest: Any) -> WindowState:
        looks.append(kind)
        return await real(self, payer, kind, *rest)

    monkeypatch.setattr(Budget, "look", look)
    aliases = " ".join(f"a{n}: reads {{ limit }}" for n in range(5))

    response = await ask(
        ada_client, f"{{ x: viewer {{ {aliases} writes {{ limit }} }} y: viewer {{ {aliases} }} }}"
    )

    assert response.json()["data"]["y"]["a4"] == {"limit": 100}
    assert sorted(looks) == ["read", "write"]
