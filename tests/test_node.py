"""What others' programs say of the running service: the public audit of GraphQL over HTTP, and
clients whose types are generated from the committed contracts. They are in ``node/``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import ROOT
from tests.programs import House, lived_in, require, run, what_is_missing

FOLDER: Final = ROOT / "tests" / "node"

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
async def house(postgres: Postgres) -> AsyncIterator[House]:
    """The running service; without Node these tests are skipped, but not in CI."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")
    async with lived_in(postgres, "node") as house:
        yield house


async def test_the_public_audit_of_graphql_over_http_passes_whole(house: House) -> None:
    said = await run(FOLDER, "audit", house)

    assert passed(said) == 1 + 61


async def test_clients_with_generated_types_compile_and_run(house: House) -> None:
    said = await run(FOLDER, "clients", house)

    assert passed(said) == 4


def passed(said: str) -> int:
    """How many tests the Node test runner says have passed."""
    [number] = re.findall(r"^\S pass (\d+)$", said, re.MULTILINE)
    return int(number)
