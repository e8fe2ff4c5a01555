"""Who a token belongs to: every layout of the auth server's table, and one answer for all others.

What real better-auth servers write is in ``test_better_auth.py``; here are the tables as such.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from api import state
from api.app import create_app
from api.server import readiness
from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.migrations import upgrade
from persistence.sessions.layouts import (
    UnusableSessions,
    hash_token,
    is_signature_right,
    sign,
    split_token,
)
from tests.conftest import HASH_SECRET, new_client, new_database, run_sql, settings_of_tests
from tests.people import SESSION_TABLES, Person
from tests.trips import TripCounter

# --- The arithmetic, with vectors from Node's crypto and from openssl ---------------------

NEW = "the new better-auth secret of the tests"
OLD = "the old better-auth secret of the tests"

TOKEN = "jPPrvazdd1vE2clF9SPMmBPfL83ypCCi"
SIGNED_NEW = "U8qZxQAXIhgmmA+P5hJzvWUQj4JS+Ahp/uJ2DzUvMH0="
SIGNED_OLD = "3Oh0IUaIDQ8fKKa8LxW+ScLGHlvWMli5dzeJWrajZrs="


@pytest.mark.parametrize(
    ("secret", "token", "digest"),
    [
        (HASH_SECRET, "abc", "e0f5336afc17110c1460705b8c0e1ebb778bf119516cf6421750839c97205fd9"),
        (HASH_SECRET, "grün", "ce0d8e194dc57d9bb049fefbb379ba51a803456d78991525a6e1d94d2d2e0810"),
        (
            HASH_SECRET,
            "Zq3vJ8Wm0rYtB5nKx7LdPf2HcUe9GsAa",
            "6eaf2f99ff85ba08ff57b8683a13adf2ed91dc3e6407015a6cc89c5f1ba70bbf",
        ),
        (
            "another secret of 32 characters!",
            "abc",
            "e60aa244fec965e3b22e3ec7741ac62a0e50bc063ac370ad71af1fe2a7cf2b3d",
        ),
    ],
)
def test_a_token_is_hashed_as_the_auth_server_does(secret: str, token: str, digest: str) -> None:
    assert hash_token(secret.encode(), token.encode()) == digest


@pytest.mark.parametrize(
    ("secret", "token", "signature"),
    [
        (NEW, TOKEN, SIGNED_NEW),
        (OLD, TOKEN, SIGNED_OLD),
        (NEW, "a.b.c", "N1uSLKRmADIM3tlcMLyxKGyCshj95LM15HzH7f2MPRQ="),
        (OLD, "a.b.c", "R2198Qvzrl1UicMwNtxUVxNl5zMxVtTRTSkxzxWzokU="),
        (NEW, "grün", "ZjhaQY/j0Nu6rD+Wj++PRMfZXzyEYF8TWSGYSF/pGTo="),
        (NEW, "abc", "9hYU1iKFxNVU3gj0lfIlpAsNvTIa3OE5lhvz8pYrdaA="),
    ],
)
def test_a_token_is_signed_as_better_auth_does(secret: str, token: str, signature: str) -> None:
    assert sign(secret.encode(), token.encode()).decode() == signature


RAW = TOKEN
IN_THE_CLEAR = f"{TOKEN}.{SIGNED_NEW}"
IN_A_COOKIE = f"{TOKEN}.U8qZxQAXIhgmmA%2BP5hJzvWUQj4JS%2BAhp%2FuJ2DzUvMH0%3D"
LOWER_CASE_ESCAPES = IN_A_COOKIE.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")
HALF_ESCAPED = f"{TOKEN}.{SIGNED_NEW[:-1]}%3D"


@pytest.mark.parametrize(
    ("presented", "raw", "signature"),
    [
        (RAW, TOKEN, ""),
        (IN_THE_CLEAR, TOKEN, SIGNED_NEW),
        (IN_A_COOKIE, TOKEN, SIGNED_NEW),
        (LOWER_CASE_ESCAPES, TOKEN, SIGNED_NEW),
        (HALF_ESCAPED, TOKEN, SIGNED_NEW),
        # Dots belong to the token, but for the last.
        ("a.b.c", "a.b.c", ""),
        (f"a.b.c.{SIGNED_NEW}", "a.b.c", SIGNED_NEW),
        (f"{TOKEN}.", f"{TOKEN}.", ""),
        (f".{SIGNED_NEW}", f".{SIGNED_NEW}", ""),
        # 44 characters of padded base64, and nothing else, are a signature.
        (f"{TOKEN}.{SIGNED_NEW[:-1]}", f"{TOKEN}.{SIGNED_NEW[:-1]}", ""),
        (f"{TOKEN}.{SIGNED_NEW}=", f"{TOKEN}.{SIGNED_NEW}=", ""),
        (f"{TOKEN}.{'A' * 44}", f"{TOKEN}.{'A' * 44}", ""),
        (f"{TOKEN}.{'A' * 42}==", TOKEN, f"{'A' * 42}=="),
        (f"{TOKEN}.{'A' * 40}=AA=", f"{TOKEN}.{'A' * 40}=AA=", ""),
        (f"{TOKEN}.{'-_' * 21}A=", f"{TOKEN}.{'-_' * 21}A=", ""),
        (f"{TOKEN}.{'A' * 42}!=", f"{TOKEN}.{'A' * 42}!=", ""),
        (f"{TOKEN}.{'A' * 41}ü=", f"{TOKEN}.{'A' * 41}ü=", ""),
        # A plus is base64, never a space.
        (IN_A_COOKIE.replace("%2B", "+"), TOKEN, SIGNED_NEW),
        (IN_A_COOKIE.replace("%2B", "%20"), IN_A_COOKIE.replace("%2B", "%20"), ""),
        # As a whole it was escaped, or it was not.
        ("gr%C3%BCn.ZjhaQY%2Fj0Nu6rD%2BWj%2B%2BPRMfZXzyEYF8TWSGYSF%2FpGTo%3D", "grün",
         "ZjhaQY/j0Nu6rD+Wj++PRMfZXzyEYF8TWSGYSF/pGTo="),
        ("gr%C3%BCn", "gr%C3%BCn", ""),
        ("", "", ""),
        (".", ".", ""),
        ("%", "%", ""),
    ],
)  # fmt: skip
def test_a_token_is_told_from_its_signature(presented: str, raw: str, signature: str) -> None:
    found = split_token(presented.encode())

    assert (found.raw.decode(), found.signature.decode()) == (raw, signature)


@pytest.mark.parametrize(
    ("presented", "signing", "right"),
    [
        (IN_THE_CLEAR, [NEW], True),
        (IN_A_COOKIE, [NEW], True),
        (IN_THE_CLEAR, [OLD, NEW], True),
        (f"{TOKEN}.{SIGNED_OLD}", [NEW, OLD], True),
        (f"{TOKEN}.{SIGNED_OLD}", [NEW], False),
        (f"x{IN_THE_CLEAR}", [NEW], False),
        (f"{TOKEN}.{'A' * 43}=", [NEW], False),
        (RAW, [NEW], True),
        (f"{TOKEN}.{SIGNED_OLD}", [], True),
    ],
)
def test_a_signature_is_right_under_one_of_the_secrets(
    presented: str, signing: list[str], right: bool
) -> None:
    token = split_token(presented.encode())

    assert is_signature_right(token, [secret.encode() for secret in signing]) is right


# --- The layouts, end to end --------------------------------------------------------------


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
class House:
    """An app of its own, on a database of its own."""

    url: str
    layout: Layout
    client: httpx.AsyncClient
    sql: asyncpg.Connection
    tokens: list[str] = field(default_factory=list)

    async def session(self, lasting: str = "1 hour", user_id: str | None = None) -> str:
        """Make a session as the auth server does. Returns the token."""
        token = secrets.token_urlsafe(24)
        who = self.layout.user_id if user_id is None else user_id
        await self.sql.execute(self.layout.insert, self.layout.key(token), who, _interval(lasting))
        return token

    async def ask(self, *authorization: str | bytes) -> httpx.Response:
        """``GET /tasks`` with these headers."""
        headers = [("Authorization", value) for value in authorization]
        return await self.client.get("/tasks", headers=headers)  # type: ignore[arg-type]

    async def status(self, token: str) -> int:
        """What ``GET /tasks`` answers to a token."""
        return (await self.ask(f"Bearer {token}")).status_code


NewHouse = Callable[..., AbstractAsyncContextManager[House]]


def _interval(text: str) -> timedelta:
    number, unit = text.split()
    return timedelta(**{f"{unit.rstrip('s')}s": float(number)})


@pytest.fixture(scope="module")
async def migrated(postgres: Postgres) -> str:
    """The name of a database with our tables and nothing else, to be copied."""
    url = await new_database(postgres, "migrated")
    await asyncio.to_thread(upgrade, url)
    return "migrated"


@pytest.fixture
async def new_house(postgres: Postgres, migrated: str) -> NewHouse:
    """Makes houses: ``async with new_house(layout, **settings) as house``."""

    @asynccontextmanager
    async def make(layout: Layout, before: str = "", **settings: Any) -> AsyncIterator[House]:
        url = await copied_database(postgres, migrated)
        await run_sql(url, f"SELECT; {layout.tables}; {before}")
        async with open_house(url, layout, **settings) as house:
            yield house

    return make


async def copied_database(postgres: Postgres, template: str) -> str:
    name = f"house_{secrets.token_hex(6)}"
    await run_sql(postgres.url(), f"CREATE DATABASE {name} TEMPLATE {template}")
    return postgres.url(name)


@asynccontextmanager
async def open_house(url: str, layout: Layout, **settings: Any) -> AsyncIterator[House]:
    app = create_app(settings_of_tests(**{"database_url": url, **layout.settings, **settings}))
    sql = await asyncpg.connect(url)
    try:
        async with app.router.lifespan_context(app), new_client(app) as client:
            yield House(url, layout, client, sql)
    finally:
        await sql.close()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
async def test_a_session_counts_in_every_layout(new_house: NewHouse, layout: Layout) -> None:
    async with new_house(layout) as house:
        identity = {"Authorization": f"Bearer {await house.session()}"}
        created = await house.client.post("/tasks", json={"title": "rest"}, headers=identity)

        assert created.json()["user_id"] == layout.user_id
        assert await house.status(await house.session("-1 second")) == 401
        assert await house.status("nobody's") == 401


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("layout", [NAIVE, LAYOUTS["hashed, naive"], CAMEL_CASE])
async def test_the_databases_time_zone_lengthens_and_shortens_no_session(
    new_house: NewHouse, layout: Layout, zone: str
) -> None:
    set_zone = (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''{}''',"
        " current_database()); END $$"
    )
    async with new_house(layout, before=set_zone.format(zone)) as house:
        assert await house.status(await house.session("30 minutes")) == 200
        assert await house.status(await house.session("-30 minutes")) == 401


@pytest.mark.parametrize("layout", [HASHED, LAYOUTS["hashed, naive"]])
@pytest.mark.parametrize("end", ["infinity", "20000-01-01", "9999-12-31 23:59:59.999999"])
async def test_a_session_that_ends_after_pythons_years_counts(
    new_house: NewHouse, layout: Layout, end: str
) -> None:
    async with new_house(layout) as house:
        token = await house.session()
        await house.sql.execute(f"UPDATE user_sessions SET expires_at = '{end}'")  # noqa: S608

        viewer = await house.client.post(
            "/graphql",
            json={"query": "{ viewer { sessionExpiresAt } }"},
            headers={"Authorization": f"Bearer {token}"},
        )

        assert await house.status(token) == 200
        assert viewer.json()["data"]["viewer"] == {
            "sessionExpiresAt": "9999-12-31T23:59:59.999999Z"
        }


async def test_a_sign_out_is_seen_by_the_next_request(new_house: NewHouse) -> None:
    async with new_house(HASHED) as house:
        token = await house.session()
        assert await house.status(token) == 200

        await house.sql.execute("UPDATE user_sessions SET revoked = true")
        assert await house.status(token) == 401

        await house.sql.execute("UPDATE user_sessions SET revoked = false")
        assert await house.status(token) == 200


async def test_a_session_without_a_user_counts_for_nobody(new_house: NewHouse) -> None:
    async with new_house(CAMEL_CASE) as house:
        token = await house.session()
        await house.sql.execute('UPDATE session SET "userId" = NULL')

        assert await house.status(token) == 401


async def test_a_token_counts_byte_for_byte_whatever_the_column_thinks_equal(
    new_house: NewHouse,
) -> None:
    padded = "ALTER TABLE session ALTER token TYPE char(64)"
    async with new_house(CAMEL_CASE, before=padded) as house:
        token = await house.session()

        assert await house.status(token) == 200
        assert await house.status(f"{token}.{SIGNED_NEW}") == 200
        assert await house.status(f"{token}%20%20.{SIGNED_NEW}") == 401


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
    new_house: NewHouse, signing: str | None, form: str, status: int
) -> None:
    async with new_house(CAMEL_CASE, better_auth_secrets=signing) as house:
        presented = forms_of(await house.session())

        assert await house.status(form.format(**presented)) == status


async def test_a_signature_is_checked_in_the_other_layout_too(new_house: NewHouse) -> None:
    async with new_house(HASHED, better_auth_secrets=NEW) as house:
        presented = forms_of(await house.session())

        assert await house.status("{token}.{escaped}".format(**presented)) == 200
        assert await house.status("{token}.{wrong}".format(**presented)) == 401


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


# --- One answer for every failure ---------------------------------------------------------

GARBAGE = [
    "x",
    "nobody's",
    "null",
    "a" * 4096,
    "'OR(true)--",
    "%00",
    f"a%00b.{SIGNED_NEW}",
    f"%FF.{SIGNED_NEW}",
    "tökën",
    b"\xff\xfe",
    b"a\x00b",
    f"{TOKEN}.{SIGNED_NEW}",
    f"{TOKEN}.{SIGNED_NEW[:-1]}",
    f".{SIGNED_NEW}",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
    "e0f5336afc17110c1460705b8c0e1ebb778bf119516cf6421750839c97205fd9",
]

NO_TOKENS: list[list[str | bytes]] = [
    [],
    [""],
    ["Bearer"],
    ["Bearer "],
    ["Basic YWRhOnB3"],
    ["Token {token}"],
    ["{token}"],
    ["Bearer{token}"],
    ["Bearer {token} {token}"],
    ["Bearer {token}", "Bearer {token}"],
    ["Bearer {token}", "Basic YWRhOnB3"],
    ["Bearer {token}, Bearer {token}"],
    ["Bearer " + "a" * 4097],
    ["Bearer=" + "{token}"],
]


def spoken(value: str | bytes, token: str) -> bytes:
    """A header's value as it is sent: text as UTF-8, and the token where it belongs."""
    raw = value.encode() if isinstance(value, str) else value
    return raw.replace(b"{token}", token.encode())


def without_its_id(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, str]]:
    """What is left to tell one answer from another."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    body = answer.json()
    return {name: body[name] for name in body.keys() - {"request_id", "timestamp"}}, headers


REFUSAL = {
    "type": "authentication_error",
    "title": "Authentication failed",
    "status": 401,
    "detail": "Invalid or missing authentication credentials",
    "instance": "/tasks",
}


@pytest.fixture
async def counted(
    postgres: Postgres, migrated: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[House, TripCounter]]:
    """A house whose round trips are counted, warm, in the layout that the test names."""
    layout: Layout = request.param
    url = await copied_database(postgres, migrated)
    await run_sql(url, layout.tables)
    async with TripCounter.before(url) as trips, open_house(trips.url, layout) as house:
        assert await house.status(await house.session()) == 200
        yield house, trips


in_both_layouts = pytest.mark.parametrize(
    "counted", [HASHED, CAMEL_CASE], ids=["hashed", "better-auth"], indirect=True
)


@in_both_layouts
async def test_every_token_that_does_not_count_gets_one_answer_in_one_trip(
    counted: tuple[House, TripCounter],
) -> None:
    house, trips = counted
    expired, revoked = await house.session("-1 second"), await house.session()
    await house.sql.execute(_REVOKE[house.layout is HASHED], house.layout.key(revoked))
    wrong = [spoken(token, "") for token in [*GARBAGE, expired, revoked]]
    before = trips.count

    answers = [await house.ask(b"Bearer " + token) for token in wrong]

    assert trips.count - before == len(wrong)
    bodies, headers = zip(*map(without_its_id, answers), strict=True)
    assert list(bodies) == [REFUSAL] * len(wrong)
    assert list(headers) == [headers[0]] * len(wrong)
    assert headers[0]["www-authenticate"] == "Bearer"


_REVOKE = {
    True: "UPDATE user_sessions SET revoked = true WHERE token_hash = $1",
    False: "DELETE FROM session WHERE token = $1",
}


@in_both_layouts
async def test_what_is_no_token_gets_the_same_answer_and_asks_nobody(
    counted: tuple[House, TripCounter],
) -> None:
    house, trips = counted
    token = await house.session()
    expected = without_its_id(await house.ask("Bearer garbage"))
    before = trips.count

    answers = [await house.ask(*(spoken(v, token) for v in values)) for values in NO_TOKENS]

    assert trips.count == before
    assert [without_its_id(answer) for answer in answers] == [expected] * len(NO_TOKENS)


@pytest.mark.parametrize(
    "value", ["Bearer {}", "bearer {}", "BEARER {}", "bEaReR {}", "Bearer   {}", " Bearer {} "]
)
async def test_the_scheme_is_known_in_any_case(new_house: NewHouse, value: str) -> None:
    async with new_house(HASHED) as house:
        answer = await house.ask(value.format(await house.session()))

        assert answer.status_code == 200


async def test_a_cookie_proves_nothing(new_house: NewHouse) -> None:
    async with new_house(CAMEL_CASE) as house:
        token = await house.session()
        cookie = {"Cookie": f"better-auth.session_token={token}; token={token}"}

        assert (await house.client.get("/tasks", headers=cookie)).status_code == 401


async def test_a_token_beyond_ascii_is_hashed_as_utf8(new_house: NewHouse) -> None:
    async with new_house(HASHED) as house:
        await house.sql.execute(HASHED.insert, HASHED.key("grün"), "ada", _interval("1 hour"))

        assert (await house.ask("Bearer grün".encode())).status_code == 200
        assert (await house.ask("Bearer grün".encode("latin-1"))).status_code == 401


# --- What is kept to itself ---------------------------------------------------------------


@in_both_layouts
async def test_no_token_and_no_hash_is_in_a_log_or_an_answer(
    counted: tuple[House, TripCounter], caplog: pytest.LogCaptureFixture
) -> None:
    house, _ = counted
    caplog.set_level(logging.DEBUG)
    tokens = [await house.session(), await house.session("-1 hour"), "a-token-of-nobody"]
    forms = ["Bearer {}", "Basic {}", "Bearer {} {}", "Bearer {}." + SIGNED_NEW]

    async with open_house(house.url, house.layout, better_auth_secrets=NEW) as strict:
        said = [
            (await asked.ask(form.format(token, token))).text
            for asked in (house, strict)
            for form in forms
            for token in tokens
        ]
    await terminate_others(house)
    said.append((await house.ask(f"Bearer {tokens[0]}")).text)

    told = "\n".join([caplog.text, *map(str, (vars(record) for record in caplog.records)), *said])
    secret = [*tokens, *map(HASHED.key, tokens), SIGNED_NEW, SIGNED_NEW[:20], HASH_SECRET, NEW]
    assert "/tasks 401" in told
    assert [word for word in secret if word in told] == []


async def terminate_others(house: House) -> None:
    """So that the app meets a failure, and logs it."""
    await house.sql.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@in_both_layouts
async def test_the_auth_servers_rows_are_never_written(
    counted: tuple[House, TripCounter],
) -> None:
    house, _ = counted
    table = "user_sessions" if house.layout is HASHED else "session"
    rows = f"SELECT xmin, xmax, ctid, * FROM {table} ORDER BY ctid"  # noqa: S608
    tokens = [await house.session(), await house.session("-1 hour")]
    before = await house.sql.fetch(rows)

    for token in [*tokens, "nobody's"]:
        identity = {"Authorization": f"Bearer {token}"}
        await house.client.post("/tasks", json={"title": "rest"}, headers=identity)
        await house.client.get("/tasks", headers=identity)

    assert await house.sql.fetch(rows) == before


# --- Refused at the start -----------------------------------------------------------------

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
    new_house: NewHouse, tables: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UnusableSessions) as refusal:
        async with new_house(Layout(tables, "", settings)):
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
    await run_sql(url, f"GRANT SELECT ON user_sessions TO {role}; GRANT ALL ON tasks TO {role}")

    async with open_house(as_role(url, role), HASHED) as house:
        house.sql, own = await asyncpg.connect(url), house.sql
        token = await house.session()
        assert await house.status(token) == 200
        await house.sql.close()
        house.sql = own


async def test_a_role_that_may_not_read_the_sessions_is_told_so_at_the_start(
    postgres: Postgres, migrated: str, role: str
) -> None:
    url = await copied_database(postgres, migrated)
    await run_sql(url, HASHED.tables)

    with pytest.raises(UnusableSessions, match="permission denied for table user_sessions"):
        async with open_house(as_role(url, role), HASHED):
            pass


# --- A database that is away --------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile() -> Iterator[Postgres]:
    """A server that is stopped and started."""
    with embedded_postgres(durable=False) as server:
        yield server


@pytest.fixture
async def away(
    fragile: Postgres, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """An app that was started while its database was away."""
    monkeypatch.setattr(state, "PROBE_SECONDS", 0.3)
    settings = settings_of_tests(
        database_url=fragile.url("away"), request_deadline_seconds=0.5, sqlalchemy_pool_size=2
    )
    await asyncio.to_thread(fragile.stop)
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client


async def test_an_app_whose_database_is_away_starts_unready_and_recovers_by_itself(
    fragile: Postgres,
    away: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "twofold")
    unready = await away.get("/health/ready")
    alive = await away.get("/health")
    fragile.start()
    await run_sql(fragile.url(), "DROP DATABASE IF EXISTS away")
    url = await new_database(fragile, "away")
    await asyncio.to_thread(upgrade, url)
    without_sessions = await away.get("/health/ready")
    no_session = await away.get("/tasks", headers={"Authorization": "Bearer x"})
    await run_sql(url, SESSION_TABLES)

    assert (alive.status_code, unready.status_code) == (200, 503)
    assert unready.json()["failing"] == "database"
    assert without_sessions.json()["failing"] == "sessions"
    assert no_session.status_code == 503
    assert (await away.get("/health/ready")).status_code == 200
    assert (await away.get("/tasks", headers={"Authorization": "Bearer x"})).status_code == 401
    # One line for each change, the first at the start.
    records = caplog.get_records("setup") + caplog.records
    told = [record.getMessage() for record in records if record.name == "twofold"]
    assert [re.sub(r"(\[|There is) ?.*", "…", line) for line in told] == [
        "not ready: database: TimeoutError: connecting, after ConnectionRefusedError: …",
        "not ready: sessions: …",
        "ready again",
    ]


async def test_requests_to_an_app_whose_database_is_away_don_t_wait_for_one_another(
    fragile: Postgres, away: httpx.AsyncClient
) -> None:
    started = time.monotonic()

    identity = {"Authorization": "Bearer x"}
    answers = await asyncio.gather(*(away.get("/tasks", headers=identity) for _ in range(8)))
    took = time.monotonic() - started
    fragile.start()

    assert [answer.status_code for answer in answers] == [503] * 8
    assert [answer.headers["retry-after"] for answer in answers] == ["2"] * 8
    assert took < 2


async def test_tokens_are_looked_up_in_any_order(ada: Person, bob: Person) -> None:
    await ada.create_task("water the plants")
    await bob.create_task("sleep in")

    both = await asyncio.gather(ada.list_tasks(), bob.list_tasks(), ada.list_tasks())

    assert [listed.titles for listed in both] == [
        ["water the plants"],
        ["sleep in"],
        ["water the plants"],
    ]
