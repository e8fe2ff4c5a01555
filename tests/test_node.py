"""Programs of others: linters of the committed contracts, clients that are generated from them and
run against the service, and the public audit of GraphQL over HTTP. They are in ``node/``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import ROOT
from tests.programs import Address, require, run, running_service, what_is_missing

FOLDER: Final = ROOT / "tests" / "node"

pytestmark = pytest.mark.node


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    """Without Node these tests are skipped, but not in CI."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")


@pytest.fixture(scope="module")
async def service(_packages: None, postgres: Postgres) -> AsyncIterator[Address]:
    """The running service."""
    async with running_service(postgres, "node") as service:
        yield service


async def test_the_public_audit_of_graphql_over_http_passes(service: Address) -> None:
    output = await run(FOLDER, "audit", service)

    assert passed(output) == 1 + 61


async def test_the_linters_of_openapi_find_nothing() -> None:
    output = await run(FOLDER, "lint:openapi")

    assert "Your API description is valid" in output
    assert "No results with a severity of 'hint' or higher found" in output


async def test_the_linter_of_graphql_schemas_finds_nothing() -> None:
    await run(FOLDER, "lint:graphql")


async def test_clients_with_generated_types_compile_and_run(service: Address) -> None:
    output = await run(FOLDER, "clients", service)

    assert passed(output) == 4


async def test_clients_of_other_generators_compile_and_run(service: Address) -> None:
    output = await run(FOLDER, "generators", service)

    assert passed(output) == 6


async def test_the_recipes_of_the_documentation_compile_and_run(service: Address) -> None:
    output = await run(FOLDER, "recipes", service)

    assert passed(output) == 13


def passed(output: str) -> int:
    """The number of passed tests in the output of the Node test runner."""
    [number] = re.findall(r"^\S pass (\d+)$", output, re.MULTILINE)
    return int(number)
