"""Layouts of the auth server's session table, and a service that runs on each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import httpx

from api.app import create_app
from persistence.embedded.postgres import Postgres
from persistence.sessions.tokens import hash_token
from tests.conftest import HASH_SECRET, new_client, run_sql, settings_of_tests
from tests.people import SESSION_TABLES

NEW = "the new better-auth secret of the tests"
OLD = "the old better-auth secret of the tests"

TOKEN = "jPPrvazdd1vE2clF9SPMmBPfL83ypCCi"
SIGNED_NEW = "U8qZxQAXIhgmmA+P5hJzvWUQj4JS+Ahp/uJ2DzUvMH0="
SIGNED_OLD = "3Oh0IUaIDQ8fKKa8LxW+ScLGHlvWMli5dzeJWrajZrs="


@dataclass(frozen=True)
class Layout:
    """How an auth server keeps its sessions, and the settings that read them.

    Args:
        tables: what makes them.
        insert: a session: ``$1`` the token, or its hash; ``$2`` the user; ``$3`` when it ends.
        settings: beyond the database's URL.
        user_id: an id as this auth server makes them.
    """

    tables: str
    insert: str
    settings: dict[str, Any]
    user_id: str = "jPPrvazdd1vE2clF9SPMmBPfL83ypCCi"

    def key(self, token: str) -> str:
        """What stands in the row for a token."""
        if "token_hash" in self.tables:
            return hash_token(HASH_SECRET.encode(), token.encode())
        return token


HASHED = Layout(
    SESSION_TABLES.replace(" REFERENCES users", ""),
    "INSERT INTO user_sessions (token_hash, user_id, expires_at)"
    " VALUES ($1, $2, now() + $3::interval)",
    {"session_store": "hashed"},
)
BETTER_AUTH: dict[str, Any] = {"session_store": "better-auth", "session_hash_secret": None}
CAMEL_CASE = Layout(
    "CREATE TABLE session (id text PRIMARY KEY DEFAULT gen_random_uuid(), token text UNIQUE,"
    ' "userId" text, "expiresAt" timestamptz)',
    'INSERT INTO session (token, "userId", "expiresAt") VALUES ($1, $2, now() + $3::interval)',
    BETTER_AUTH,
)
NAIVE = Layout(
    "CREATE TABLE session (token text, user_id text, expires_at timestamp)",
    "INSERT INTO session VALUES ($1, $2, (now() + $3::interval) AT TIME ZONE 'UTC')",
    BETTER_AUTH,
)

LAYOUTS = {
    "hashed": HASHED,
    "hashed, naive": Layout(
        "CREATE TABLE user_sessions"
        " (token_hash char(64), user_id int, expires_at timestamp(3), revoked boolean)",
        "INSERT INTO user_sessions"
        " VALUES ($1, $2::text::int, (now() + $3::interval) AT TIME ZONE 'UTC', NULL)",
        {"session_store": "hashed"},
        user_id="4711",
    ),
    "camelCase": CAMEL_CASE,
    "snake_case": Layout(
        "CREATE TABLE session (token text, user_id text, expires_at timestamptz)",
        "INSERT INTO session VALUES ($1, $2, now() + $3::interval)",
        BETTER_AUTH,
    ),
    "sessions": Layout(
        "CREATE TABLE sessions (token varchar(255), user_id text, expires_at timestamptz(3))",
        "INSERT INTO sessions VALUES ($1, $2, now() + $3::interval)",
        BETTER_AUTH,
    ),
    "uuid": Layout(
        'CREATE TABLE session (token text, "userId" uuid, "expiresAt" timestamptz)',
        "INSERT INTO session VALUES ($1, $2::text::uuid, now() + $3::interval)",
        BETTER_AUTH,
        user_id="0b6a8d0e-6a5c-4a55-9d0b-2c6f3f1f7a11",
    ),
    "integer": Layout(
        'CREATE TABLE session (token text, "userId" bigint, "expiresAt" timestamptz)',
        "INSERT INTO session VALUES ($1, $2::text::bigint, now() + $3::interval)",
        BETTER_AUTH,
        user_id="9007199254740993",
    ),
    "naive": NAIVE,
    "schema-qualified": Layout(
        "CREATE SCHEMA auth; CREATE TABLE session (nothing int);"
        " CREATE TABLE auth.session (token text, user_id text, expires_at timestamptz)",
        "INSERT INTO auth.session VALUES ($1, $2, now() + $3::interval)",
        {**BETTER_AUTH, "session_table": "auth.session"},
    ),
    "quoted": Layout(
        'CREATE SCHEMA "Auth.1"; CREATE TABLE "Auth.1"."User ""Session"""'
        " (token text, user_id text, expires_at timestamptz)",
        'INSERT INTO "Auth.1"."User ""Session""" VALUES ($1, $2, now() + $3::interval)',
        {**BETTER_AUTH, "session_table": '"Auth.1"."User ""Session"""'},
    ),
    "a view": Layout(
        "CREATE TABLE kept (token text, user_id text, expires_at timestamptz);"
        " CREATE VIEW session AS SELECT * FROM kept",
        "INSERT INTO session VALUES ($1, $2, now() + $3::interval)",
        BETTER_AUTH,
    ),
}  # fmt: skip


@dataclass
class Service:
    """An app of its own, on a database of its own.

    Args:
        sql: a connection to the same database.
    """

    url: str
    layout: Layout
    client: httpx.AsyncClient
    sql: asyncpg.Connection

    async def session(self, lasting: str = "1 hour", user_id: str | None = None) -> str:
        """Make a session as the auth server does. Returns the token."""
        token = secrets.token_urlsafe(24)
        who = self.layout.user_id if user_id is None else user_id
        await self.sql.execute(self.layout.insert, self.layout.key(token), who, interval(lasting))
        return token

    async def list_tasks(self, *authorization: str | bytes) -> httpx.Response:
        """``GET /tasks`` with these headers."""
        headers = [("Authorization", value) for value in authorization]
        return await self.client.get("/tasks", headers=headers)  # type: ignore[arg-type]

    async def status(self, token: str) -> int:
        """What ``GET /tasks`` answers to a token."""
        return (await self.list_tasks(f"Bearer {token}")).status_code


NewService = Callable[..., AbstractAsyncContextManager[Service]]


def interval(text: str) -> timedelta:
    number, unit = text.split()
    return timedelta(**{f"{unit.rstrip('s')}s": float(number)})


async def copied_database(postgres: Postgres, template: str) -> str:
    name = f"service_{secrets.token_hex(6)}"
    await run_sql(postgres.url(), f"CREATE DATABASE {name} TEMPLATE {template}")
    return postgres.url(name)


@asynccontextmanager
async def open_service(url: str, layout: Layout, **settings: Any) -> AsyncIterator[Service]:
    app = create_app(settings_of_tests(**{"database_url": url, **layout.settings, **settings}))
    sql = await asyncpg.connect(url)
    try:
        async with app.router.lifespan_context(app), new_client(app) as client:
            yield Service(url, layout, client, sql)
    finally:
        await sql.close()
