"""What a client of a real better-auth server may hold: which of it is a session here."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

import pytest

from persistence.embedded.postgres import Postgres
from tests.auth_server.client import (
    AuthServer,
    SignedIn,
)
from tests.better_auth.deployments import LAYOUTS, Service, deployed

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


@pytest.mark.parametrize(
    "held",
    [
        lambda ada: ada.token,
        lambda ada: ada.header,
        lambda ada: ada.cookie,
        lambda ada: unquote(ada.cookie),
    ],
    ids=["raw token", "set-auth-token", "cookie", "decoded cookie"],
)
async def test_a_session_is_accepted_in_every_form_of_its_token(
    service: Service, ada: SignedIn, held: Callable[[SignedIn], str]
) -> None:
    await service.accepts(ada, held(ada))


async def test_a_jwt_is_refused(auth: AuthServer, service: Service, ada: SignedIn) -> None:
    jwt = (await auth.get("/token", ada.token))["token"]

    await service.refuses(jwt)


async def test_a_cached_session_is_refused(service: Service, ada: SignedIn) -> None:
    await service.refuses(ada.cached)
    await service.refuses(unquote(ada.cached))


async def test_the_handles_in_a_list_of_sessions_are_refused_in_the_hashed_layout(
    postgres: Postgres,
) -> None:
    async with deployed(postgres, LAYOUTS["hashed"]) as hashed:
        ada = await hashed.auth.sign_up("ada")
        there = await hashed.auth.sign_in(ada.email)

        listed = {row["token"] for row in await hashed.auth.get("/list-sessions", ada.token)}
        [handle] = listed - {ada.token}

        assert there.token not in listed
        assert await hashed.auth.get("/get-session", handle) is None
        await hashed.service.refuses(handle)
        await hashed.service.refuses(handle.removeprefix("hashed."))
