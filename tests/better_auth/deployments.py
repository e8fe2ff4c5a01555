"""A real better-auth server and the service on its database, in every layout that we read."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from api.app import create_app
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.auth_server.client import (
    AuthServer,
    SignedIn,
    running,
)
from tests.conftest import HASH_SECRET, new_client, new_database, run_sql, settings_of_tests
from tests.people import Person
from tests.surfaces import SURFACES, Surface

OLD_SECRET: Final = "the secret with which it all began 0123456789"


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
