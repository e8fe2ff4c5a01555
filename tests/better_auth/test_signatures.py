"""The signatures of a better-auth server's tokens, and changed secrets."""

from __future__ import annotations

import secrets
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.auth_server.client import (
    SignedIn,
    running,
)
from tests.better_auth.deployments import (
    LAYOUTS,
    OLD_SECRET,
    STOCK,
    Deployment,
    deployed,
    service_on,
)
from tests.conftest import new_database

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


NEW_SECRET: Final = "the secret that came after the old 9876543210"


@pytest.fixture
async def signed_in(stock: Deployment) -> SignedIn:
    """Someone with a session at the stock server."""
    return await stock.auth.sign_up(f"ada-{secrets.token_hex(6)}")


def forged(user: SignedIn) -> str:
    """A token with an invalid signature."""
    return f"{user.token}.{'A' * 43}%3D"


async def test_without_secrets_a_signature_is_ignored(
    stock: Deployment, signed_in: SignedIn
) -> None:
    await stock.service.accepts(signed_in, forged(signed_in))


@pytest.mark.parametrize("layout", ["stock", "hashed"])
async def test_with_secrets_a_forged_signature_is_refused(postgres: Postgres, layout: str) -> None:
    secret = f"1:{OLD_SECRET}"
    async with deployed(postgres, LAYOUTS[layout], better_auth_secrets=secret) as it:
        ada = await it.auth.sign_up("ada")

        await it.service.accepts(ada, ada.token)
        await it.service.accepts(ada, ada.cookie)
        await it.service.accepts(ada, ada.header)
        await it.service.refuses(forged(ada))


async def test_a_right_signature_of_another_token_is_refused(stock: Deployment) -> None:
    ada = await stock.auth.sign_up(f"ada-{secrets.token_hex(6)}")
    bob = await stock.auth.sign_up(f"bob-{secrets.token_hex(6)}")
    signature = bob.cookie.rpartition(".")[2]

    async with service_on(
        stock.service.url, **STOCK.settings, better_auth_secrets=OLD_SECRET
    ) as service:
        await service.accepts(bob, f"{bob.token}.{signature}")
        await service.refuses(f"{ada.token}.{signature}")


async def test_a_signed_token_that_cannot_be_stored_is_refused(stock: Deployment) -> None:
    signature = "A" * 43 + "%3D"

    await stock.service.refuses(f"%00.{signature}")
    await stock.service.refuses(f"%FF.{signature}")


async def test_a_rotated_secret_counts_as_long_as_it_is_listed(stock: Deployment) -> None:
    url = stock.service.url
    rotated = f"2:{NEW_SECRET}, 1: {OLD_SECRET}"
    ada = await stock.auth.sign_up(f"ada-{secrets.token_hex(6)}")
    async with running("stock", DATABASE_URL=url, BETTER_AUTH_SECRETS=rotated) as auth:
        there = await auth.sign_in(ada.email)
        # better-auth itself believes signed cookies under the newest secret alone.
        assert await auth.get("/get-session", ada.cookie) is None
    assert there.cookie.rpartition(".")[2] != ada.cookie.rpartition(".")[2]

    async with service_on(url, **STOCK.settings, better_auth_secrets=rotated) as service:
        await service.accepts(ada, ada.cookie)
        await service.accepts(ada, there.cookie)

    async with service_on(url, **STOCK.settings, better_auth_secrets=f"2:{NEW_SECRET}") as service:
        await service.refuses(ada.cookie)
        await service.accepts(ada, ada.token)
        await service.accepts(ada, there.cookie)


async def test_a_new_secret_for_hashing_signs_nobody_out(postgres: Postgres) -> None:
    url = await new_database(postgres, f"better_auth_{secrets.token_hex(6)}")
    server = {"DATABASE_URL": url, "BETTER_AUTH_SECRETS": f"1:{OLD_SECRET}"}
    both = f"{NEW_SECRET},{OLD_SECRET}"
    async with running("hashed", **server, SESSION_HASH_SECRET=OLD_SECRET) as auth:
        ada = await auth.sign_up("ada")
        bob = await auth.sign_up("bob")
    server |= {"SESSION_HASH_SECRET": NEW_SECRET, "OLD_SESSION_HASH_SECRET": OLD_SECRET}
    async with (
        running("hashed", **server) as auth,
        service_on(url, session_store="hashed", session_hash_secret=both) as service,
    ):
        there = await auth.sign_in(ada.email)
        await service.accepts(ada, ada.token)
        await service.accepts(ada, there.token)
        assert (await auth.get("/get-session", ada.token))["user"]["id"] == ada.user_id
        await auth.post("/sign-out", bob.token)
        await service.refuses(bob.token)

    async with service_on(url, session_store="hashed", session_hash_secret=NEW_SECRET) as service:
        await service.refuses(ada.token)
        await service.accepts(ada, there.token)
