"""Every way in which a better-auth server ends sessions ends them here."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import pytest

from tests.auth_server.client import (
    PASSWORD,
    AuthServer,
    SignedIn,
)
from tests.better_auth.deployments import Service

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]


async def sign_out(auth: AuthServer, ada: SignedIn, _: SignedIn) -> None:
    await auth.post("/sign-out", ada.token)


async def revoke_session(auth: AuthServer, ada: SignedIn, there: SignedIn) -> None:
    await auth.post("/revoke-session", there.token, token=ada.token)


async def revoke_listed_session(auth: AuthServer, ada: SignedIn, there: SignedIn) -> None:
    listed = await auth.get("/list-sessions", there.token)
    [token] = [session["token"] for session in listed if session["token"] != there.token]
    await auth.post("/revoke-session", there.token, token=token)


async def revoke_other_sessions(auth: AuthServer, ada: SignedIn, there: SignedIn) -> None:
    await auth.post("/revoke-other-sessions", there.token)


@pytest.mark.parametrize(
    "end", [sign_out, revoke_session, revoke_listed_session, revoke_other_sessions]
)
async def test_an_ended_session_is_refused_and_another_one_is_accepted(
    auth: AuthServer,
    service: Service,
    ada: SignedIn,
    end: Callable[[AuthServer, SignedIn, SignedIn], Awaitable[None]],
) -> None:
    there = await auth.sign_in(ada.email)
    await service.accepts(ada, ada.token)

    await end(auth, ada, there)

    await service.refuses(ada.token)
    await service.refuses(ada.cookie)
    await service.accepts(ada, there.token)


async def revoke_all_sessions(auth: AuthServer, ada: SignedIn) -> None:
    await auth.post("/revoke-sessions", ada.token)


async def change_password(auth: AuthServer, ada: SignedIn) -> None:
    await auth.post(
        "/change-password",
        ada.token,
        currentPassword=PASSWORD,
        newPassword=f"a new {PASSWORD}",
        revokeOtherSessions=True,
    )


async def delete_user(auth: AuthServer, ada: SignedIn) -> None:
    await auth.post("/delete-user", ada.token, password=PASSWORD)


async def ban_user(auth: AuthServer, ada: SignedIn) -> None:
    admin = await an_admin(auth)
    await auth.post("/admin/ban-user", admin.token, userId=ada.user_id)


async def revoke_user_sessions(auth: AuthServer, ada: SignedIn) -> None:
    admin = await an_admin(auth)
    await auth.post("/admin/revoke-user-sessions", admin.token, userId=ada.user_id)


async def remove_user(auth: AuthServer, ada: SignedIn) -> None:
    admin = await an_admin(auth)
    await auth.post("/admin/remove-user", admin.token, userId=ada.user_id)


async def an_admin(auth: AuthServer) -> SignedIn:
    """Someone whom the servers make an admin, by their name."""
    return await auth.sign_up(f"admin-{secrets.token_hex(6)}")


@pytest.mark.parametrize(
    "end",
    [
        revoke_all_sessions,
        change_password,
        delete_user,
        ban_user,
        revoke_user_sessions,
        remove_user,
    ],
)
async def test_no_session_is_accepted_after_all_were_ended(
    auth: AuthServer,
    service: Service,
    ada: SignedIn,
    end: Callable[[AuthServer, SignedIn], Awaitable[None]],
) -> None:
    there = await auth.sign_in(ada.email)
    await service.accepts(ada, ada.token)
    await service.accepts(ada, there.token)

    await end(auth, ada)

    await service.refuses(ada.token)
    await service.refuses(there.token)


async def test_the_session_from_a_new_password_is_accepted(
    auth: AuthServer, service: Service, ada: SignedIn
) -> None:
    changed = await auth.post(
        "/change-password",
        ada.token,
        currentPassword=PASSWORD,
        newPassword=f"a new {PASSWORD}",
        revokeOtherSessions=True,
    )

    await service.accepts(ada, changed.json()["token"])


async def test_a_sign_out_does_not_end_other_users_sessions(
    auth: AuthServer, service: Service, ada: SignedIn
) -> None:
    bob = await auth.sign_up(f"bob-{secrets.token_hex(6)}")

    await auth.post("/sign-out", ada.token)

    await service.refuses(ada.token)
    await service.accepts(bob, bob.token)
