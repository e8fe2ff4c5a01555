"""Apps on databases of their own, for what other tools do to a database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI

from api.app import create_app
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import new_client, new_database, run_sql, settings_of_tests
from tests.people import SESSION_TABLES, Person, sign_in
from tests.surfaces import GraphQLSurface, RestSurface


async def new_installation(postgres: Postgres, schema: str | None = None) -> str:
    """The URL of a new database with the auth server's tables and ours."""
    url = await new_database(postgres, f"neighbours_{secrets.token_hex(6)}")
    await run_sql(url, SESSION_TABLES)
    await asyncio.to_thread(upgrade, url, schema)
    return url


@asynccontextmanager
async def started(url: str, **settings: Any) -> AsyncIterator[FastAPI]:
    """A running app on a database."""
    app = create_app(settings_of_tests(database_url=url, **settings))
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running app on a database."""
    async with started(url, **settings) as app, new_client(app) as client:
        yield client


async def both_adas(url: str, client: httpx.AsyncClient) -> tuple[Person, Person]:
    """Ada, through REST and through GraphQL."""
    sql = await asyncpg.connect(url)
    try:
        ada = await sign_in(sql, RestSurface(client), "ada")
    finally:
        await sql.close()
    return ada, Person(ada.user_id, ada.token, GraphQLSurface(client))
