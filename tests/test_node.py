"""Programs of others against the running service: the public audit of GraphQL over HTTP, and
clients whose types are generated from the committed contracts. They are in ``node/``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import ROOT
from tests.programs import Address, require, run, running_service, what_is_missing

FOLDER: Final = ROOT / "tests" / "node"

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
async def service(postgres: Postgres) -> AsyncIterator[Address]:
    """The running service; without Node these tests are skipped, but not in CI."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")
    async with running_service(postgres, "node") as service:
        yield service


async def test_the_public_audit_of_graphql_over_http_passes(service: Address) -> None:
    output = await run(FOLDER, "audit", service)

    assert passed(output) == 1 + 61


async def test_clients_with_generated_types_compile_and_run(service: Address) -> None:
    output = await run(FOLDER, "clients", service)

    assert passed(output) == 4


def passed(output: str) -> int:
    """The number of passed tests in the output of the Node test runner."""
    [number] = re.findall(r"^\S pass (\d+)$", output, re.MULTILINE)
    return int(number)
