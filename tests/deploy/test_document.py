"""`docs/deploy.md`: its SQL, its back-up and restore, and its files, on real servers."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml
from sqlalchemy.engine import make_url

from api.app import create_app
from api.settings import setting_names
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import HASH_SECRET, ROOT, new_client, new_database, run_sql, settings_of_tests
from tests.people import SESSION_TABLES, sign_in
from tests.surfaces import GraphQLSurface, RestSurface

TEXT = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def block(language: str, part: str) -> str:
    """The one block of a language that has this part."""
    [text] = [text for name, text in BLOCKS if name == language and part in text]
    return text


HERE = "tests/deploy/test_document.py"

EXECUTED = {
    "ACL SETUSER": "tests/neighbours/test_redis_acl.py",
    "FROM public.user_sessions": HERE,
    "FROM public.session;": HERE,
    "CREATE ROLE": HERE,
    "ALTER DEFAULT PRIVILEGES": HERE,
    "CREATE TABLE public.user_sessions": HERE,
    "pg_dump": HERE,
    "pg_restore": HERE,
    "setval": HERE,
    "release_command": HERE,
    "preDeployCommand": HERE,
    "inFlightReq": HERE,
    "limit_req_zone": "tests/deploy/test_proxies.py",
    "caddyfile": "tests/deploy/test_proxies.py",
    # Docker's, and commands of root: their parts are tested in test_image.py and test_systemd.py.
    "docker build": "tests/deploy/test_image.py",
    "docker compose": "tests/deploy/test_compose.py",
    "systemctl enable": "tests/deploy/test_systemd.py",
    # What the service writes.
    "connections refused": "tests/protocol/test_limits.py",
}
"""What each block has, and where it is executed or checked."""


def test_every_block_of_the_document_is_known_to_a_test() -> None:
    unknown = [
        text
        for language, text in BLOCKS
        if not any(part in f"{language}\n{text}" for part in EXECUTED)
    ]

    assert unknown == []
    assert all((ROOT / path).exists() for path in EXECUTED.values())


# --- Roles and rights -----------------------------------------------------------------------


def as_role(url: str, role: str, password: str) -> str:
    return make_url(url).set(username=role, password=password).render_as_string(False)


@pytest.fixture
async def unmigrated(postgres: Postgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a database after the document's first statements, as the auth server's owner."""
    url = await new_database(postgres, f"deployed_{abs(hash(request.node.nodeid))}")
    await run_sql(url, SESSION_TABLES)
    await run_sql(url, block("sql", "CREATE ROLE"))
    rights = block("sql", "ALTER DEFAULT PRIVILEGES")
    await run_sql(as_role(url, "twofold_owner", "choose-one"), rights)
    yield url
    for role in ("twofold_service", "twofold_owner"):
        await run_sql(url, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.fixture
async def deployed(unmigrated: str) -> str:
    """The same, migrated by its owner, with the sessions' view."""
    await asyncio.to_thread(upgrade, as_role(unmigrated, "twofold_owner", "choose-one"), "twofold")
    await run_sql(unmigrated, block("sql", "FROM public.user_sessions"))
    return unmigrated


@asynccontextmanager
async def service(url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which connects as the limited role."""
    defaults = {"database_schema": "twofold", "session_table": "public.twofold_sessions"}
    database_url = as_role(url, "twofold_service", "choose-another")
    app = create_app(settings_of_tests(database_url=database_url, **defaults | settings))
    async with app.router.lifespan_context(app), new_client(app) as client:
        yield client


async def test_the_limited_role_is_enough_for_everything_that_serving_does(deployed: str) -> None:
    sql = await asyncpg.connect(deployed)
    async with service(deployed) as client:
        ready = await client.get("/health/ready")
        for surface in (RestSurface(client), GraphQLSurface(client)):
            ada = await sign_in(sql, surface, "ada", HASH_SECRET)
            task = await ada.create_task("water the plants")
            await ada.change_task(task.id, completed=True)
            await ada.delete_task(task.id)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        key = {"Idempotency-Key": "once"}
        first = await client.post("/tasks", json={"title": "once"}, headers=key)
        again = await client.post("/tasks", json={"title": "once"}, headers=key)
        response = await client.get("/tasks?q=once")
        emptied = await client.delete("/tasks/trash")
    await sql.close()

    assert ready.json()["status"] == "ok"
    assert (first.status_code, again.json()) == (201, first.json())
    assert [task["title"] for task in response.json()] == ["once"]
    assert emptied.status_code in (200, 204)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM public.users",
        "SELECT * FROM public.user_sessions",
        "UPDATE public.twofold_sessions SET revoked = false",
        "DROP TABLE twofold.tasks",
        "ALTER TABLE twofold.tasks ADD COLUMN more text",
        "TRUNCATE twofold.tasks",
        "CREATE TABLE twofold.more ()",
        "CREATE TABLE public.more ()",
    ],
)
async def test_the_limited_role_can_do_no_more(statement: str, deployed: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run_sql(as_role(deployed, "twofold_service", "choose-another"), statement)


async def test_the_view_of_a_stock_better_auth_server_serves(unmigrated: str) -> None:
    await asyncio.to_thread(upgrade, as_role(unmigrated, "twofold_owner", "choose-one"), "twofold")
    await run_sql(
        unmigrated,
        'CREATE TABLE public.session (id text, token text UNIQUE, "userId" text,'
        ' "expiresAt" timestamptz, "ipAddress" text);'
        " INSERT INTO public.session"
        " VALUES ('1', 'a-token', 'ada', now() + interval '1 day', '::1')",
    )
    await run_sql(unmigrated, block("sql", "FROM public.session;"))

    async with service(unmigrated, session_store="better-auth") as client:
        client.headers["Authorization"] = "Bearer a-token"
        created = await client.post("/tasks", json={"title": "water the plants"})

    assert (created.status_code, created.json()["user_id"]) == (201, "ada")


async def test_the_table_of_the_layout_hashed_is_the_one_that_is_documented(
    postgres: Postgres,
) -> None:
    url = await new_database(postgres, "documented_sessions")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, block("sql", "CREATE TABLE public.user_sessions"))
    await run_sql(url, "CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE)")
    app = create_app(settings_of_tests(database_url=url))
    sql = await asyncpg.connect(url)
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        task = await ada.create_task("water the plants")
    await sql.close()

    assert task.user_id == ada.user_id


# --- Back-up and restore --------------------------------------------------------------------


async def test_a_restore_gives_no_id_and_no_version_twice(
    deployed: str, postgres: Postgres, tmp_path: Path
) -> None:
    sql = await asyncpg.connect(deployed)
    owner = as_role(deployed, "twofold_owner", "choose-one")

    async def run(part: str) -> None:
        variables = {"PATH": f"{postgres.binaries}:{os.environ['PATH']}", "OWNER_URL": owner}
        done = await asyncio.to_thread(
            subprocess.run, ["sh", "-euc", block("sh", part)], cwd=tmp_path, env=variables,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    async with service(deployed) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        kept = await ada.create_task("kept")
        await run("pg_dump")
        changed = await ada.change_task(kept.id, title="changed")
        lost = await ada.create_task("lost")
    await run("pg_restore")
    await run_sql(owner, block("sql", "setval"))
    await asyncio.to_thread(upgrade, owner, "twofold")
    async with service(deployed) as client:
        ada.surface = RestSurface(client)
        restored = await ada.get_task(kept.id)
        new = await ada.create_task("new")
        ready = await client.get("/health/ready")
    await sql.close()

    assert restored.title == "kept"
    assert restored.version > changed.version
    assert new.id > lost.id
    assert ready.json()["status"] == "ok"


# --- Files of services ----------------------------------------------------------------------


def test_the_file_for_fly_migrates_first_and_names_settings() -> None:
    document = tomllib.loads(block("toml", "release_command"))

    assert document["deploy"]["release_command"] == "twofold migrate"
    assert {*document["env"]} <= setting_names()
    [check] = document["http_service"]["checks"]
    assert check["path"] == "/health/ready"
    # Two failed checks, and 1 s more.
    assert float(document["env"]["DRAIN_SECONDS"]) > 2 * float(check["interval"].rstrip("s")) + 1
    assert document["kill_timeout"] > float(document["env"]["DRAIN_SECONDS"]) + 30


def test_the_file_for_render_migrates_first_and_names_settings() -> None:
    [document] = yaml.safe_load(block("yaml", "preDeployCommand"))["services"]

    assert document["preDeployCommand"] == "twofold migrate"
    assert {variable["key"] for variable in document["envVars"]} <= setting_names()
    assert document["healthCheckPath"] == "/health/ready"


def test_the_file_for_traefik_checks_whether_an_instance_is_ready() -> None:
    document = yaml.safe_load(block("yaml", "inFlightReq"))["http"]

    balancer = document["services"]["twofold"]["loadBalancer"]
    assert balancer["healthCheck"]["path"] == "/health/ready"
    assert document["routers"]["twofold"]["middlewares"] == [*document["middlewares"]]
