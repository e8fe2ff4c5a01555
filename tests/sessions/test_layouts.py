"""Every layout of the auth server's table is read; an unusable one is rejected at the start."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from persistence.embedded.postgres import Postgres
from persistence.sessions.store import UnusableSessions
from persistence.sessions.tokens import sign
from tests.conftest import run_sql
from tests.people import SESSION_TABLES
from tests.sessions.layouts import (
    BETTER_AUTH,
    CAMEL_CASE,
    HASHED,
    LAYOUTS,
    NAIVE,
    NEW,
    OLD,
    SIGNED_NEW,
    Layout,
    NewService,
    copied_database,
    open_service,
)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
async def test_a_session_counts_in_every_layout(new_service: NewService, layout: Layout) -> None:
    async with new_service(layout) as service:
        identity = {"Authorization": f"Bearer {await service.session()}"}
        created = await service.client.post("/tasks", json={"title": "rest"}, headers=identity)

        assert created.json()["user_id"] == layout.user_id
        assert await service.status(await service.session("-1 second")) == 401
        assert await service.status("nobody's") == 401


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("layout", [NAIVE, LAYOUTS["hashed, naive"], CAMEL_CASE])
async def test_the_databases_time_zone_lengthens_and_shortens_no_session(
    new_service: NewService, layout: Layout, zone: str
) -> None:
    set_zone = (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''{}''',"
        " current_database()); END $$"
    )
    async with new_service(layout, before=set_zone.format(zone)) as service:
        assert await service.status(await service.session("30 minutes")) == 200
        assert await service.status(await service.session("-30 minutes")) == 401


@pytest.mark.parametrize("layout", [HASHED, LAYOUTS["hashed, naive"]])
@pytest.mark.parametrize("end", ["infinity", "20000-01-01", "9999-12-31 23:59:59.999999"])
async def test_a_session_that_ends_after_pythons_years_counts(
    new_service: NewService, layout: Layout, end: str
) -> None:
    async with new_service(layout) as service:
        token = await service.session()
        await service.sql.execute(f"UPDATE user_sessions SET expires_at = '{end}'")  # noqa: S608

        viewer = await service.client.post(
            "/graphql",
            json={"query": "{ viewer { sessionExpiresAt } }"},
            headers={"Authorization": f"Bearer {token}"},
        )

        assert await service.status(token) == 200
        assert viewer.json()["data"]["viewer"] == {
            "sessionExpiresAt": "9999-12-31T23:59:59.999999Z"
        }


async def test_a_sign_out_is_seen_by_the_next_request(new_service: NewService) -> None:
    async with new_service(HASHED) as service:
        token = await service.session()
        assert await service.status(token) == 200

        await service.sql.execute("UPDATE user_sessions SET revoked = true")
        assert await service.status(token) == 401

        await service.sql.execute("UPDATE user_sessions SET revoked = false")
        assert await service.status(token) == 200


async def test_a_session_without_a_user_counts_for_nobody(new_service: NewService) -> None:
    async with new_service(CAMEL_CASE) as service:
        token = await service.session()
        await service.sql.execute('UPDATE session SET "userId" = NULL')

        assert await service.status(token) == 401


async def test_a_token_counts_byte_for_byte_whatever_the_column_thinks_equal(
    new_service: NewService,
) -> None:
    padded = "ALTER TABLE session ALTER token TYPE char(64)"
    async with new_service(CAMEL_CASE, before=padded) as service:
        token = await service.session()

        assert await service.status(token) == 200
        assert await service.status(f"{token}.{SIGNED_NEW}") == 200
        assert await service.status(f"{token}%20%20.{SIGNED_NEW}") == 401


@pytest.mark.parametrize(
    ("signing", "form", "status"),
    [
        (None, "{token}", 200),
        (None, "{token}.{right}", 200),
        (None, "{token}.{wrong}", 200),
        (NEW, "{token}", 200),
        (NEW, "{token}.{right}", 200),
        (NEW, "{token}.{escaped}", 200),
        (NEW, "{token}.{wrong}", 401),
        (NEW, "{token}.{unpadded}", 401),
        (f"2:{NEW},1:{OLD}", "{token}.{right}", 200),
        (f"{OLD},{NEW}", "{token}.{right}", 200),
        (OLD, "{token}.{right}", 401),
    ],
)
async def test_a_signature_is_checked_where_secrets_are_set(
    new_service: NewService, signing: str | None, form: str, status: int
) -> None:
    async with new_service(CAMEL_CASE, better_auth_secrets=signing) as service:
        presented = forms_of(await service.session())

        assert await service.status(form.format(**presented)) == status


async def test_a_signature_is_checked_in_the_other_layout_too(new_service: NewService) -> None:
    async with new_service(HASHED, better_auth_secrets=NEW) as service:
        presented = forms_of(await service.session())

        assert await service.status("{token}.{escaped}".format(**presented)) == 200
        assert await service.status("{token}.{wrong}".format(**presented)) == 401


def forms_of(token: str) -> dict[str, str]:
    """A token, and signatures of it."""
    right = sign(NEW.encode(), token.encode()).decode()
    return {
        "token": token,
        "right": right,
        "escaped": right.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "unpadded": right[:-1],
        "wrong": f"{'A' * 43}=",
    }


# --- Rejected at the start ---

UNUSABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no table, hashed": (
        "",
        {},
        "There is no table user_sessions in the database. SESSION_STORE=hashed reads",
    ),
    "no table, better-auth": (
        SESSION_TABLES,
        BETTER_AUTH,
        "There is no table session or sessions in the database. SESSION_STORE=better-auth reads",
    ),
    "no table of that name": (
        SESSION_TABLES,
        {"session_table": "auth.user_sessions"},
        "There is no table auth.user_sessions in the database.",
    ),
    "a name that is none": (
        SESSION_TABLES,
        {"session_table": "a.b.c.d"},
        "The database cannot look for a table a.b.c.d: improper relation name",
    ),
    "two tables": (
        f"{CAMEL_CASE.tables}; {LAYOUTS['sessions'].tables}",
        BETTER_AUTH,
        "The database has the tables session and sessions; "
        "name the one with the sessions in SESSION_TABLE.",
    ),
    "the other layout's": (
        CAMEL_CASE.tables,
        {"session_table": "session"},
        "The session table session has no column expires_at; SESSION_STORE may not fit it.",
    ),
    "no token": (
        "CREATE TABLE session (user_id text, expires_at timestamptz)",
        BETTER_AUTH,
        "The session table session has no column token; SESSION_STORE may not fit it.",
    ),
    "no user": (
        "CREATE TABLE session (token text, expires_at timestamptz, userid text)",
        BETTER_AUTH,
        "The session table session has no column userId or user_id;",
    ),
    "two users": (
        'CREATE TABLE session (token text, "userId" text, user_id text, expires_at timestamptz)',
        BETTER_AUTH,
        "The session table session has both columns userId and user_id;",
    ),
    "no revoked": (
        "CREATE TABLE user_sessions (token_hash text, user_id text, expires_at timestamptz)",
        {},
        "The session table user_sessions has no column revoked;",
    ),
    "a binary hash": (
        "CREATE TABLE user_sessions"
        " (token_hash bytea, user_id text, expires_at timestamptz, revoked boolean)",
        {},
        "The session table user_sessions cannot be read as SESSION_STORE=hashed describes it:",
    ),
    "a uuid for a token": (
        "CREATE TABLE session (token uuid, user_id text, expires_at timestamptz)",
        BETTER_AUTH,
        "The session table session cannot be read as SESSION_STORE=better-auth describes it:",
    ),
    "an end in milliseconds": (
        "CREATE TABLE session (token text, user_id text, expires_at bigint)",
        BETTER_AUTH,
        "The session table session cannot be read as SESSION_STORE=better-auth describes it:",
    ),
    "an end as text": (
        "CREATE TABLE session (token text, user_id text, expires_at text)",
        BETTER_AUTH,
        "The session table session cannot be read as SESSION_STORE=better-auth describes it:",
    ),
    "revoked as a number": (
        "CREATE TABLE user_sessions"
        " (token_hash text, user_id text, expires_at timestamptz, revoked int)",
        {},
        "The session table user_sessions cannot be read as SESSION_STORE=hashed describes it:",
    ),
}


@pytest.mark.parametrize(("tables", "settings", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
async def test_a_table_that_cannot_be_read_is_refused_at_the_start(
    new_service: NewService, tables: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UnusableSessions) as refusal:
        async with new_service(Layout(tables, "", settings)):
            pass

    assert str(refusal.value).startswith(sentence)
    assert str(refusal.value).endswith(".")


@pytest.fixture
async def role(postgres: Postgres) -> AsyncIterator[str]:
    """Someone whom the database lets in, and no more."""
    name = f"role_{secrets.token_hex(6)}"
    await run_sql(postgres.url(), f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield name
    await run_sql(postgres.url(), f"ALTER ROLE {name} NOLOGIN")


def as_role(url: str, role: str) -> str:
    _, at, rest = url.partition("@")
    return f"postgresql://{role}:pw{at}{rest}"


async def test_a_role_that_may_only_read_the_sessions_suffices(
    postgres: Postgres, migrated: str, role: str
) -> None:
    url = await copied_database(postgres, migrated)
    await run_sql(url, HASHED.tables)
    await run_sql(
        url, f"GRANT SELECT ON user_sessions TO {role}; GRANT ALL ON tasks, feeds TO {role}"
    )

    async with open_service(as_role(url, role), HASHED) as service:
        service.sql, own = await asyncpg.connect(url), service.sql
        token = await service.session()
        assert await service.status(token) == 200
        await service.sql.close()
        service.sql = own


async def test_a_role_without_the_right_to_read_sessions_is_reported_at_the_start(
    postgres: Postgres, migrated: str, role: str
) -> None:
    url = await copied_database(postgres, migrated)
    await run_sql(url, HASHED.tables)

    with pytest.raises(UnusableSessions, match="permission denied for table user_sessions"):
        async with open_service(as_role(url, role), HASHED):
            pass
