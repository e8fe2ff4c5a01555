"""Sessions as real better-auth servers write and end them, in every layout that we read.

The servers are the Node programs in ``auth_server/``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
import pytest

from api.app import create_app
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.sessions.layouts import UnusableSessions
from tests.auth_server.client import (
    FOLDER,
    PASSWORD,
    AuthServer,
    SignedIn,
    running,
)
from tests.conftest import HASH_SECRET, ROOT, new_client, new_database, run_sql, settings_of_tests
from tests.people import Person
from tests.programs import require, what_is_missing
from tests.surfaces import SURFACES, Surface

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]

OLD_SECRET: Final = "the secret with which it all began 0123456789"
NEW_SECRET: Final = "the secret that came after the old 9876543210"


@dataclass(frozen=True, slots=True)
class Service:
    """Twofold beside an auth server, on the same database."""

    url: str
    surfaces: list[Surface]

    async def accepts(self, user: SignedIn, token: str) -> None:
        """Require that each protocol accepts the token, with the auth server's id of the user."""
        for surface in self.surfaces:
            task = await Person(user.email, token, surface).create_task("water the plants")
            assert task.user_id == user.user_id

    async def refuses(self, token: str) -> None:
        """Require that each protocol refuses the next request with this token."""
        for surface in self.surfaces:
            with Person("whoever", token, surface).refused("authentication_error"):
                await surface.list_tasks(token)


@asynccontextmanager
async def service_on(url: str, **settings: Any) -> AsyncIterator[Service]:
    """Twofold, started on a database where an auth server has its tables."""
    await asyncio.to_thread(upgrade, url, settings.get("database_schema"))
    app = create_app(settings_of_tests(database_url=url, sqlalchemy_pool_size=1, **settings))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield Service(url, [surface(client) for surface in SURFACES.values()])


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to keep sessions: which program writes it, and which settings read it."""

    program: str
    environment: dict[str, str]
    settings: dict[str, Any]


STOCK: Final = Layout("stock", {}, {"session_store": "better-auth"})
LAYOUTS: Final = {
    "stock": STOCK,
    "mirrored": Layout("stock", {"SECONDARY_STORAGE": "mirror"}, STOCK.settings),
    "preserved": Layout("stock", {"SECONDARY_STORAGE": "preserve"}, STOCK.settings),
    "hashed": Layout(
        "hashed",
        {"SESSION_HASH_SECRET": HASH_SECRET},
        {"session_store": "hashed", "session_hash_secret": HASH_SECRET},
    ),
    "drizzle": Layout("drizzle", {}, STOCK.settings),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """An auth server and the service, as in production."""

    auth: AuthServer
    service: Service


@asynccontextmanager
async def deployed(
    postgres: Postgres,
    layout: Layout,
    *,
    timezone: str = "UTC",
    node_timezone: str = "UTC",
    **settings: Any,
) -> AsyncIterator[Deployment]:
    """A database of its own, an auth server on it, and Twofold beside that.

    Args:
        timezone: where the database believes to be, for everyone who connects.
        node_timezone: where the auth server believes to be.
    """
    url = await new_database(postgres, f"better_auth_{secrets.token_hex(6)}")
    name = url.rpartition("/")[2]
    await run_sql(url, f"ALTER DATABASE {name} SET timezone TO '{timezone}'")
    environment = {
        "DATABASE_URL": url,
        "BETTER_AUTH_SECRETS": f"1:{OLD_SECRET}",
        "TZ": node_timezone,
        "PGTZ": node_timezone,
        **layout.environment,
    }
    async with (
        running(layout.program, **environment) as auth,
        service_on(url, **{**layout.settings, **settings}) as service,
    ):
        yield Deployment(auth, service)


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


# --- What a client may hold ---------------------------------------------------------------


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


# --- What ends a session ------------------------------------------------------------------


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


# --- Signatures ---------------------------------------------------------------------------


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


# --- Timestamps ---------------------------------------------------------------------------


async def sql_value(url: str, query: str, *arguments: Any) -> Any:
    """One value, read behind everyone's back."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


SOMEWHERE: Final = ("Asia/Tokyo", "America/New_York")
MINUTE: Final = timedelta(minutes=1)


@pytest.mark.parametrize("node_timezone", SOMEWHERE)
@pytest.mark.parametrize("timezone", SOMEWHERE)
async def test_naive_timestamps_of_drizzle_are_utc_in_any_time_zone(
    postgres: Postgres, timezone: str, node_timezone: str
) -> None:
    layout = LAYOUTS["drizzle"]
    async with deployed(
        postgres, layout, timezone=timezone, node_timezone=node_timezone
    ) as deployment:
        ada = await deployment.auth.sign_up("ada")
        url = deployment.service.url
        ends = await sql_value(url, "SELECT expires_at FROM sessions")
        move_end = "UPDATE sessions SET expires_at = (now() AT TIME ZONE 'UTC') + interval '{}'"

        assert await sql_value(url, "SHOW timezone") == timezone
        assert abs(ends.replace(tzinfo=UTC) - (datetime.now(UTC) + timedelta(days=7))) < MINUTE
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("1 minute"))
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("-1 second"))
        await deployment.service.refuses(ada.token)


async def test_naive_timestamps_of_a_stock_server_are_utc_where_nodes_time_zone_is_utc(
    postgres: Postgres,
) -> None:
    async with deployed(postgres, STOCK, timezone="Asia/Tokyo") as deployment:
        await run_sql(
            deployment.service.url, 'ALTER TABLE session ALTER "expiresAt" TYPE timestamp'
        )
        async with service_on(deployment.service.url, **STOCK.settings) as service:
            ada = await deployment.auth.sign_up("ada")
            ends = await sql_value(service.url, 'SELECT "expiresAt" FROM session')

            assert abs(ends.replace(tzinfo=UTC) - (datetime.now(UTC) + timedelta(days=7))) < MINUTE
            await service.accepts(ada, ada.token)


@pytest.mark.parametrize("timezone", SOMEWHERE)
async def test_timestamps_with_a_zone_are_read_correctly_in_any_time_zone(
    postgres: Postgres, timezone: str
) -> None:
    async with deployed(postgres, STOCK, timezone=timezone, node_timezone=timezone) as deployment:
        ada = await deployment.auth.sign_up("ada")
        url = deployment.service.url
        move_end = "UPDATE session SET \"expiresAt\" = now() + interval '{}'"

        await run_sql(url, move_end.format("1 minute"))
        await deployment.service.accepts(ada, ada.token)

        await run_sql(url, move_end.format("-1 second"))
        await deployment.service.refuses(ada.token)


# --- Sessions that are nowhere to be read -------------------------------------------------


async def test_the_app_does_not_start_with_sessions_only_in_redis(postgres: Postgres) -> None:
    url = await new_database(postgres, f"better_auth_{secrets.token_hex(6)}")
    async with running("redis_only", DATABASE_URL=url, BETTER_AUTH_SECRET=OLD_SECRET) as auth:
        await auth.sign_up("ada")

        with pytest.raises(UnusableSessions) as refusal:
            async with service_on(url, **STOCK.settings):
                pass

    assert "There is no table session or sessions" in str(refusal.value)
    assert "session.storeSessionInDatabase" in str(refusal.value)


# --- Visitors who sign up ------------------------------------------------------------------


@asynccontextmanager
async def with_visitors(postgres: Postgres, **environment: str) -> AsyncIterator[Deployment]:
    """An auth server with anonymous visitors, and Twofold with a schema of its own."""
    url = await new_database(postgres, f"visitors_{secrets.token_hex(6)}")
    environment |= {
        "DATABASE_URL": url,
        "DATABASE_SCHEMA": "twofold",
        # Where the command is.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    async with (
        running("anonymous", **environment) as auth,
        service_on(url, database_schema="twofold", **STOCK.settings) as service,
    ):
        yield Deployment(auth, service)


@pytest.mark.parametrize("how", ["command", "sql"])
async def test_what_an_anonymous_visitor_has_done_is_theirs_when_they_sign_up(
    postgres: Postgres, how: str
) -> None:
    async with with_visitors(postgres, REASSIGN=how) as deployment:
        visitor = await deployment.auth.visit()
        other = await deployment.auth.visit()
        await deployment.service.accepts(visitor, visitor.token)
        await deployment.service.accepts(other, other.token)

        ada = await deployment.auth.sign_up("ada", visitor.token)

        assert ada.user_id != visitor.user_id
        await deployment.service.refuses(visitor.token)
        for surface in deployment.service.surfaces:
            tasks = (await Person("ada", ada.token, surface).list_tasks()).tasks
            assert [(task.user_id, task.version) for task in tasks] == [(ada.user_id, 2)] * 2
            assert len((await Person("other", other.token, surface).list_tasks()).tasks) == 2


async def test_a_visitor_whose_tasks_could_not_be_reassigned_gets_them_when_they_try_again(
    postgres: Postgres,
) -> None:
    async with with_visitors(postgres) as deployment:
        auth, service = deployment.auth, deployment.service
        visitor = await auth.visit()
        await service.accepts(visitor, visitor.token)

        await run_sql(service.url, "ALTER TABLE twofold.tasks RENAME TO away")
        with pytest.raises(AssertionError):
            await auth.sign_up("ada", visitor.token)
        await run_sql(service.url, "ALTER TABLE twofold.away RENAME TO tasks")
        ada = await auth.sign_in("ada@example.com", visitor.token)

        [rest, _] = service.surfaces
        tasks = (await Person("ada", ada.token, rest).list_tasks()).tasks
        assert [task.user_id for task in tasks] == [ada.user_id] * 2


# --- What the documentation says ----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["hashed_sessions.js", "reassign.js", "reassign_in_sql.js", "drizzle.config.js"]
)
def test_the_documentation_shows_the_code_that_is_tested(name: str) -> None:
    code = (FOLDER / name).read_text()

    assert code in (ROOT / "docs" / "auth.md").read_text()
