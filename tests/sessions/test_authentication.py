"""What a token proves, and the one response to every token that proves nothing."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from api import state
from api.app import create_app
from api.auth import authenticator
from api.server import readiness
from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.migrations import upgrade
from tests.conftest import HASH_SECRET, new_client, new_database, run_sql, settings_of_tests
from tests.control import Control
from tests.people import SESSION_TABLES, Person
from tests.sessions.layouts import (
    CAMEL_CASE,
    HASHED,
    NEW,
    SIGNED_NEW,
    TOKEN,
    NewService,
    Service,
    interval,
    open_service,
)
from tests.trips import TripCounter

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


def without_its_id(response: httpx.Response) -> tuple[dict[str, Any], dict[str, str]]:
    """What is left to tell one response from another."""
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    body = response.json()
    return {name: body[name] for name in body.keys() - {"request_id", "timestamp"}}, headers


REFUSAL = {
    "type": "authentication_error",
    "title": "Authentication failed",
    "status": 401,
    "detail": "Invalid or missing authentication credentials",
    "instance": "/tasks",
}

in_both_layouts = pytest.mark.parametrize(
    "counted", [HASHED, CAMEL_CASE], ids=["hashed", "better-auth"], indirect=True
)


@in_both_layouts
async def test_every_token_that_does_not_count_gets_one_response_in_one_trip(
    counted: tuple[Service, TripCounter],
) -> None:
    service, trips = counted
    expired, revoked = await service.session("-1 second"), await service.session()
    await service.sql.execute(_REVOKE[service.layout is HASHED], service.layout.key(revoked))
    wrong = [spoken(token, "") for token in [*GARBAGE, expired, revoked]]
    before = trips.count

    responses = [await service.list_tasks(b"Bearer " + token) for token in wrong]

    assert trips.count - before == len(wrong)
    bodies, headers = zip(*map(without_its_id, responses), strict=True)
    assert list(bodies) == [REFUSAL] * len(wrong)
    assert list(headers) == [headers[0]] * len(wrong)
    assert headers[0]["www-authenticate"] == "Bearer"


_REVOKE = {
    True: "UPDATE user_sessions SET revoked = true WHERE token_hash = $1",
    False: "DELETE FROM session WHERE token = $1",
}


@in_both_layouts
async def test_a_malformed_token_gets_the_same_response_without_a_query(
    counted: tuple[Service, TripCounter],
) -> None:
    service, trips = counted
    token = await service.session()
    expected = without_its_id(await service.list_tasks("Bearer garbage"))
    before = trips.count

    responses = [
        await service.list_tasks(*(spoken(v, token) for v in values)) for values in NO_TOKENS
    ]

    assert trips.count == before
    assert [without_its_id(response) for response in responses] == [expected] * len(NO_TOKENS)


@pytest.mark.parametrize(
    "value", ["Bearer {}", "bearer {}", "BEARER {}", "bEaReR {}", "Bearer   {}", " Bearer {} "]
)
async def test_the_scheme_is_known_in_any_case(new_service: NewService, value: str) -> None:
    async with new_service(HASHED) as service:
        response = await service.list_tasks(value.format(await service.session()))

        assert response.status_code == 200


async def test_a_cookie_proves_nothing(new_service: NewService) -> None:
    async with new_service(CAMEL_CASE) as service:
        token = await service.session()
        cookie = {"Cookie": f"better-auth.session_token={token}; token={token}"}

        assert (await service.client.get("/tasks", headers=cookie)).status_code == 401


async def test_a_token_beyond_ascii_is_hashed_as_utf8(new_service: NewService) -> None:
    async with new_service(HASHED) as service:
        await service.sql.execute(HASHED.insert, HASHED.key("grün"), "ada", interval("1 hour"))

        assert (await service.list_tasks("Bearer grün".encode())).status_code == 200
        assert (await service.list_tasks("Bearer grün".encode("latin-1"))).status_code == 401


# --- What is kept to itself ---------------------------------------------------------------


@in_both_layouts
async def test_no_token_and_no_hash_is_in_a_log_or_a_response(
    counted: tuple[Service, TripCounter],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    service, _ = counted
    caplog.set_level(logging.DEBUG)
    tokens = [await service.session(), await service.session("-1 hour"), "a-token-of-nobody"]
    forms = ["Bearer {}", "Basic {}", "Bearer {} {}", "Bearer {}." + SIGNED_NEW]

    async with open_service(service.url, service.layout, better_auth_secrets=NEW) as strict:
        responses = [
            (await each.list_tasks(form.format(token, token))).text
            for each in (service, strict)
            for form in forms
            for token in tokens
        ]
    await terminate_others(service)
    responses.append((await service.list_tasks(f"Bearer {tokens[0]}")).text)

    records = map(str, map(vars, caplog.records))
    logged = "\n".join([caplog.text, *records, capfd.readouterr().err, *responses])
    secret = [*tokens, *map(HASHED.key, tokens), SIGNED_NEW, SIGNED_NEW[:20], HASH_SECRET, NEW]
    assert '"route":"/tasks","status":401' in logged
    assert [word for word in secret if word in logged] == []


async def terminate_others(service: Service) -> None:
    """So that the app meets a failure, and logs it."""
    await service.sql.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@in_both_layouts
async def test_the_auth_servers_rows_are_never_written(
    counted: tuple[Service, TripCounter],
) -> None:
    service, _ = counted
    table = "user_sessions" if service.layout is HASHED else "session"
    rows = f"SELECT xmin, xmax, ctid, * FROM {table} ORDER BY ctid"  # noqa: S608
    tokens = [await service.session(), await service.session("-1 hour")]
    before = await service.sql.fetch(rows)

    for token in [*tokens, "nobody's"]:
        identity = {"Authorization": f"Bearer {token}"}
        await service.client.post("/tasks", json={"title": "rest"}, headers=identity)
        await service.client.get("/tasks", headers=identity)

    assert await service.sql.fetch(rows) == before


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
    monkeypatch.setattr(authenticator, "FAILURE_SECONDS", 0.0)
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
    logged = [record.getMessage() for record in records if record.name == "twofold"]
    assert [re.sub(r"(\[|There is) ?.*", "…", line) for line in logged] == [
        "not ready: database: TimeoutError: connecting, after ConnectionRefusedError: …",
        "not ready: sessions: …",
        "ready again",
    ]


async def test_requests_to_an_app_whose_database_is_away_don_t_wait_for_one_another(
    fragile: Postgres, away: httpx.AsyncClient
) -> None:
    identity = {"Authorization": "Bearer x"}
    async with Control.running() as control:
        started = time.monotonic()
        responses = await asyncio.gather(*(away.get("/tasks", headers=identity) for _ in range(8)))
        took = time.monotonic() - started
    fragile.start()

    assert [response.status_code for response in responses] == [503] * 8
    assert [response.headers["retry-after"] for response in responses] == ["2"] * 8
    assert took < control.bound(2)


async def test_tokens_are_looked_up_in_any_order(ada: Person, bob: Person) -> None:
    await ada.create_task("water the plants")
    await bob.create_task("sleep in")

    both = await asyncio.gather(ada.list_tasks(), bob.list_tasks(), ada.list_tasks())

    assert [listed.titles for listed in both] == [
        ["water the plants"],
        ["sleep in"],
        ["water the plants"],
    ]
