"""The pages of the running service in a real Chromium, which reaches no other host. The tests
themselves are in ``browser/``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import ROOT
from tests.programs import Address, require, run, running_service, what_is_missing

FOLDER: Final = ROOT / "tests" / "browser"
CHROMIUM: Final = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
async def service(postgres: Postgres) -> AsyncIterator[Address]:
    """The running service; without a browser these tests are skipped, but not in CI."""
    missing = what_is_missing(FOLDER)
    if not CHROMIUM.exists():
        missing = f"There is no browser at {CHROMIUM}: install Chromium, or set CHROMIUM"
    require(missing, "TWOFOLD_REQUIRE_BROWSER")
    async with running_service(postgres, "browser") as service:
        yield service


@pytest.mark.parametrize("page", ["graphiql", "docs", "pages"])
async def test_the_page_works_without_internet(page: str, service: Address) -> None:
    await run(FOLDER, page, service)


async def test_a_client_that_loses_its_connection_writes_once(service: Address) -> None:
    await run(FOLDER, "write", service)
