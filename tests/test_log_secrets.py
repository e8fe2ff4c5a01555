"""What clients send is not in the log, whatever happens to their requests, at the lowest level."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any, Final

import asyncpg
import httpx
import pytest

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.sessions.tokens import hash_token
from tests.conftest import HASH_SECRET, ROOT, new_database, run_sql
from tests.people import SESSION_TABLES, sign_in
from tests.servers import served
from tests.surfaces import RestSurface

CANARY: Final = "canary0bird"
"""A part of everything that the test sends."""

TOO_LONG: Final = CANARY * 20_000


async def send_everything(client: httpx.AsyncClient) -> dict[str, set[int]]:
    """Requests of all kinds, good and bad, with canaries in them. Returns the statuses by path."""
    statuses: dict[str, set[int]] = {"rest": set(), "graphql": set()}

    async def rest(method: str, path: str, **options: Any) -> httpx.Response:
        response = await client.request(method, path, **options)
        statuses["rest"].add(response.status_code)
        return response

    async def graphql(query: str, variables: object = None, **options: Any) -> None:
        body = {"query": query, "variables": variables, "extensions": {CANARY: CANARY}}
        response = await client.post("/graphql", json=body, **options)
        statuses["graphql"].add(response.status_code)

    unknown = {"Authorization": f"Bearer {CANARY}"}
    task = {"title": CANARY, "description": CANARY}
    made = await rest("POST", "/tasks", json=task, headers={"Idempotency-Key": CANARY})
    await rest("POST", "/tasks", json=task, headers={"Idempotency-Key": CANARY})
    await rest("POST", "/tasks", json={"title": "x"}, headers={"Idempotency-Key": CANARY})
    path = f"/tasks/{made.json()['id']}"
    await rest("GET", path, headers={"Cookie": f"session={CANARY}", "User-Agent": CANARY})
    await rest("PATCH", path, json=task, headers={"If-Match": f'"{CANARY}"'})
    await rest("PATCH", path, json=task, headers={"If-Match": '"9"'})
    await rest("GET", f"/tasks?cursor={CANARY}&{CANARY}={CANARY}")
    await rest("GET", f"/tasks/{CANARY}")
    await rest("GET", f"/{CANARY}")
    await rest(CANARY.upper(), "/tasks")
    await rest("PUT", f"/health?token={CANARY}")
    await rest("GET", "/tasks", headers=unknown)
    await rest("POST", "/tasks", json={"title": {CANARY: CANARY}, CANARY: CANARY})
    await rest("POST", "/tasks", content=f'{{"title": "{CANARY}')
    await rest("POST", "/tasks", content=TOO_LONG, headers={"Content-Type": "application/json"})
    await rest("POST", "/tasks", content=CANARY, headers={"Content-Type": f"text/{CANARY}"})
    create = "mutation ($a: CreateTaskInput!) { createTask(input: $a) { id title } }"
    await graphql(create, {"a": task})
    await graphql(create, {"a": task | {"title": ""}})
    await graphql(create, {"a": CANARY})
    await graphql(create, {"a": {CANARY: CANARY}})
    await graphql(f'mutation {{ createTask(input: {{title: "{CANARY}"}}) {{ id }} }}')
    await graphql(f'{{ task(id: "{CANARY}") {{ id }} }}')
    await graphql(f'{{ task(id: "{CANARY}) {{ id }} }}')
    await graphql(f"{{ tasks {{ {CANARY} }} }}")
    await graphql(f"# {CANARY}\n{{ tasks {{ totalCount }} }}")
    await graphql("{ tasks { totalCount } }", headers=unknown)
    await graphql("{ tasks { totalCount } }", CANARY)
    return statuses


async def test_nothing_that_a_client_sent_is_in_the_log(
    postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await new_database(postgres, "canaries")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    capfd.readouterr()
    settings = {
        "LOG_LEVEL": "DEBUG",
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_READ": "40/minute",
        "RATE_LIMIT_WRITE": "60/minute",
    }
    sql = await asyncpg.connect(url)
    async with served(url, **settings) as (client, _):
        ada = await sign_in(sql, RestSurface(client), f"ada {CANARY}", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        answered = await send_everything(client)
        # PostgreSQL's message about this has the whole row.
        await sql.execute("ALTER TABLE tasks ADD CHECK (title NOT LIKE 'canary%') NOT VALID")
        broken = await send_writes(client)
        await sql.execute("ALTER TABLE tasks RENAME TO elsewhere")
        unavailable = await send_writes(client)
        spent = {(await client.get(f"/tasks?a={CANARY}")).status_code for _ in range(40)}
    await sql.close()

    written = capfd.readouterr().err
    assert answered["rest"] >= {201, 200, 400, 401, 404, 405, 412, 413, 415, 422}
    assert answered["graphql"] >= {200, 400, 401}
    assert (broken, unavailable) == ([500, 200], [503, 200])
    assert 429 in spent
    lines = [json.loads(line) for line in written.splitlines()]
    assert {line["status"] for line in lines if "status" in line} >= answered["rest"] | {500, 503}
    assert CANARY not in written.lower()
    assert ada.token not in written
    assert hash_token(HASH_SECRET.encode(), ada.token.encode()) not in written


async def send_writes(client: httpx.AsyncClient) -> list[int]:
    """A write through each protocol, with canaries in it. Returns the statuses."""
    task = {"title": CANARY}
    create = "mutation ($a: CreateTaskInput!) { createTask(input: $a) { id } }"
    rest = await client.post("/tasks", json=task)
    body = {"query": create, "variables": {"a": task}}
    return [rest.status_code, (await client.post("/graphql", json=body)).status_code]


async def test_lines_of_a_migration_have_the_same_form(postgres: Postgres) -> None:
    url = await new_database(postgres, "migrated_with_a_log")

    migrated, stamped = await command(url, "migrate"), await command(url, "stamp", "head")

    lines = [json.loads(line) for line in migrated.stderr.splitlines()]
    assert migrated.stdout == "The schema is up to date.\n"
    assert {line["logger"] for line in lines} == {"alembic.runtime.migration"}
    assert [line for line in lines if line["event"].startswith("Running upgrade")]
    lines = [json.loads(line) for line in stamped.stderr.splitlines()]
    assert {line["logger"] for line in lines} == {"alembic.runtime.migration"}


async def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a database, with its log as JSON."""
    environment = os.environ | {"DATABASE_URL": url, "LOG_LEVEL": "INFO", "LOG_FORMAT": "json"}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip


async def test_lines_of_other_loggers_have_the_same_form(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with served(database_url, LOG_LEVEL="DEBUG"):
        pass

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {"twofold", "twofold.request", "uvicorn.error"} <= {line["logger"] for line in lines}
    for line in lines:
        assert {"timestamp", "level", "logger", "event", "instance", "version", "commit"} <= {*line}
    [started] = [line for line in lines if line["event"].startswith("listening on ")]
    assert (started["logger"], started["level"]) == ("twofold", "info")
