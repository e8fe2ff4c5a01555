"""A better-auth server whose sessions the database does not have."""

from __future__ import annotations

import secrets

import pytest

from persistence.embedded.postgres import Postgres
from persistence.sessions.store import UnusableSessions
from tests.auth_server.client import (
    running,
)
from tests.better_auth.deployments import OLD_SECRET, STOCK, service_on
from tests.conftest import new_database

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


async def test_the_app_does_not_start_with_sessions_only_in_redis(postgres: Postgres) -> None:
    url = await new_database(postgres, f"better_auth_{secrets.token_hex(6)}")
    async with running("redis_only", DATABASE_URL=url, BETTER_AUTH_SECRET=OLD_SECRET) as auth:
        await auth.sign_up("ada")

        with pytest.raises(UnusableSessions) as refusal:
            async with service_on(url, **STOCK.settings):
                pass

    assert "There is no table session or sessions" in str(refusal.value)
    assert "session.storeSessionInDatabase" in str(refusal.value)
