"""Real better-auth servers: the Node programs in ``tests/auth_server/``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from persistence.embedded.postgres import Postgres
from tests.auth_server.client import (
    FOLDER,
    AuthServer,
    SignedIn,
)
from tests.better_auth.deployments import LAYOUTS, STOCK, Deployment, Service, deployed
from tests.programs import require, what_is_missing


@pytest.fixture(scope="session")
def node() -> None:
    """Node, with what the servers need; without it these tests are skipped, but not in CI."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")


@pytest.fixture(scope="session", params=LAYOUTS)
async def deployment(
    request: pytest.FixtureRequest, node: None, postgres: Postgres
) -> AsyncIterator[Deployment]:
    """Each layout, with an auth server that writes it."""
    async with deployed(postgres, LAYOUTS[request.param]) as deployment:
        yield deployment


@pytest.fixture(scope="session")
async def stock(node: None, postgres: Postgres) -> AsyncIterator[Deployment]:
    """The layout of a stock server, where the layout does not matter."""
    async with deployed(postgres, STOCK) as deployment:
        yield deployment


@pytest.fixture
def auth(deployment: Deployment) -> AuthServer:
    """The auth server."""
    return deployment.auth


@pytest.fixture
def service(deployment: Deployment) -> Service:
    """Twofold."""
    return deployment.service


@pytest.fixture
async def ada(auth: AuthServer) -> SignedIn:
    """Someone who has just signed up."""
    return await auth.sign_up(f"ada-{secrets.token_hex(6)}")
