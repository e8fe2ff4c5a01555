"""Instances and workers are replaced under load, and no request fails."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGHUP, SIGKILL

import asyncpg
import httpx
import pytest

from alembic import command as alembic
from api.settings import Settings
from persistence import migrations, schema_check
from persistence.embedded.postgres import Postgres
from persistence.embedded.processes import free_port
from tests.conftest import HASH_SECRET, ROOT, new_database, run_sql
from tests.control import GIVE_UP
from tests.drills.instances import (
    UVICORN,
    WORKERS,
    new_connections,
    processes_of,
    replaced,
    until_logged,
)
from tests.drills.nginx import load_balancer, require_nginx
from tests.drills.traffic import Traffic
from tests.log_lines import has_exception
from tests.people import SESSION_TABLES, sign_in
from tests.servers import COMMAND, served
from tests.surfaces import RestSurface

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def own_database(postgres: Postgres, tmp_path: Path) -> AsyncIterator[str]:
    """A database that may be migrated to a schema newer than this build."""
    name = f"deploys_{tmp_path.name}"
    url = await new_database(postgres, name)
    await asyncio.to_thread(migrations.upgrade, url)
    await run_sql(url, SESSION_TABLES)
    yield url
    await run_sql(postgres.url("postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def own_sql(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


@pytest.fixture
async def token(own_sql: asyncpg.Connection) -> str:
    """Ada's token."""
    async with httpx.AsyncClient() as client:
        ada = await sign_in(own_sql, RestSurface(client), "ada")
    return ada.token


@pytest.mark.drill
async def test_no_request_fails_in_a_rolling_deploy_with_a_migration(
    own_database: str, own_sql: asyncpg.Connection, token: str, tmp_path: Path
) -> None:
    require_nginx()
    async with AsyncExitStack() as stack:

        async def start() -> tuple[int, asyncio.subprocess.Process]:
            instance = served(own_database, DRAIN_SECONDS="1.5")
            client, process = await stack.enter_async_context(instance)
            return client.base_url.port or 0, process

        old = [await start(), await start()]
        balancer = await stack.enter_async_context(
            load_balancer(tmp_path, *(port for port, _ in old))
        )
        traffic = await stack.enter_async_context(
            Traffic.at(balancer.url, token, making_new_ones=8)
        )
        await traffic.until(2_000)
        await asyncio.to_thread(expand, own_database, tmp_path)
        ready_on_newer_schema = await balancer.ready()
        await traffic.until(4_000)
        for port, process in old:
            process.terminate()
            code = await process.wait()
            balancer.instances.remove(port)
            new_port, _ = await start()
            balancer.instances.add(new_port)
            await balancer.until_routed(*balancer.instances)
            await traffic.until(traffic.requests + 1_500)
            assert code == 0
        await traffic.until(10_000)
        routed = balancer.routed
        # Before nginx stops.
        await traffic.end()

    traffic.assert_flawless()
    assert traffic.requests >= 10_000
    assert ready_on_newer_schema == {port for port, _ in old}
    assert routed.isdisjoint(port for port, _ in old)
    await traffic.ledger.assert_stored(own_sql, exclusive=True)
    assert (
        await own_sql.fetchval("SELECT version_num FROM twofold_alembic_version") == NEXT_REVISION
    )
    assert await own_sql.fetchval("SELECT count(colour) FROM tasks") == 0


NEXT_REVISION = "2999_01_01_expand_tasks"
EXPANSION = f'''
"""A migration of the next release."""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "%s"

def upgrade():
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("tasks", sa.Column("colour", sa.Integer(), nullable=True))
'''


def expand(database_url: str, folder: Path) -> None:
    """Migrate as the next release does: to a schema that this build does not know."""
    scripts = folder / "alembic"
    shutil.copytree(ROOT / "alembic", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    _, newest = schema_check.revisions()
    (scripts / "versions" / f"{NEXT_REVISION}.py").write_text(EXPANSION % newest)
    config = migrations.config(database_url)
    config.set_main_option("script_location", str(scripts))
    alembic.upgrade(config, "head")


@pytest.mark.drill
@pytest.mark.parametrize(
    "command",
    [
        # By default it gives up on a worker that takes 5 s to start, as it may under this load.
        pytest.param((*UVICORN, "--timeout-worker-healthcheck", "30"), id="uvicorn"),
        pytest.param(COMMAND, id="twofold serve"),
    ],
)
async def test_no_request_fails_when_sighup_replaces_the_workers(
    command: tuple[str, ...], own_database: str, own_sql: asyncpg.Connection, token: str
) -> None:
    async with served(own_database, *command, *WORKERS, DRAIN_SECONDS="1") as (client, process):
        url = str(client.base_url)
        async with Traffic.at(url, token, keeping_connections=3, making_new_ones=3) as traffic:
            await traffic.until(300)
            before = set(processes_of(process)[1:])
            process.send_signal(SIGHUP)
            await replaced(process, before)
            await traffic.until(traffic.requests + 300)
        process.terminate()
        code = await process.wait()

    traffic.assert_flawless()
    await traffic.ledger.assert_stored(own_sql, exclusive=True)
    assert code == 0


@pytest.mark.drill
async def test_settings_that_cannot_be_used_reach_no_worker(
    database_url: str, tmp_path: Path
) -> None:
    env, log = tmp_path / ".env", tmp_path / "log"
    good = f"DATABASE_URL={database_url}\nSESSION_HASH_SECRET={HASH_SECRET}\nDRAIN_SECONDS=1\n"
    env.write_text(f"{good}CORS_ORIGINS={OLD}\n")
    async with serving_from(tmp_path, log) as (client, process):
        workers = processes_of(process)[1:]
        env.write_text(f"{good}CORS_ORIGINS={NEW}\nENVIRONMENT=prod\nLOG_LEVEL=LOUD\n")
        process.send_signal(SIGHUP)
        await until_logged(log, "[error")
        errors = [line for line in log.read_text().splitlines() if "[error" in line]
        kept = processes_of(process)[1:]
        workers[0].kill()
        await until_logged(log, "startup complete", 3)
        while_wrong = await origins_of(client)

        # These are valid, but a worker does not find its table.
        env.write_text(f"{good}CORS_ORIGINS={NEW}\nSESSION_TABLE=nowhere\n")
        process.send_signal(SIGHUP)
        await until_logged(log, "previous settings are in use again")
        workers[1].kill()
        await until_logged(log, "startup complete", 4)
        while_unusable = await origins_of(client)

        env.write_text(f"{good}CORS_ORIGINS={NEW}\nTRASH_DAY=7\n")
        workers = processes_of(process)[1:]
        process.send_signal(SIGHUP)
        await replaced(process, set(workers))
        mended = await origins_of(client)
        process.terminate()
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    [error] = errors
    assert "ENVIRONMENT: " in error
    assert log.read_text().count("TRASH_DAY is not a setting; TRASH_DAYS is.") == 1
    assert "LOG_LEVEL: " in error
    assert len(kept) == 2
    assert while_wrong == while_unusable == {OLD}
    assert mended == {NEW}
    assert not has_exception(log.read_text())
    assert code == 0


OLD, NEW = "https://old.example", "https://new.example"


@asynccontextmanager
async def serving_from(
    folder: Path, log: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """Two workers that read all their settings from the `.env` of a folder."""
    port = str(free_port())
    names = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["PYTHONPATH"] = str(ROOT)
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *WORKERS, "--port", port, cwd=folder, env=environment, stderr=stderr
        )
    try:
        await until_logged(log, "startup complete", 2)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def origins_of(client: httpx.AsyncClient) -> set[str]:
    """The allowed origins of all workers that response one of twenty new connections."""
    allowed = set()
    async with new_connections(client) as another:
        for origin in (OLD, NEW) * 10:
            response = await another.get("/health", headers={"Origin": origin})
            allowed.add(response.headers.get("Access-Control-Allow-Origin"))
    return allowed - {None}


@pytest.mark.drill
@pytest.mark.parametrize("requests", [40, 200, 400, 800])
async def test_what_an_instance_acknowledged_is_stored_when_it_is_killed(
    requests: int, own_database: str, own_sql: asyncpg.Connection, token: str
) -> None:
    async with served(own_database) as (client, process):
        async with Traffic.at(str(client.base_url), token, keeping_connections=12) as traffic:
            await traffic.until(requests)
            while len(traffic.ledger.unconfirmed) < 3:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.001)
            process.send_signal(SIGKILL)
            await process.wait()
        await until_alone(own_sql)

    assert traffic.ledger.unconfirmed, "no request was writing"
    await traffic.ledger.assert_stored(own_sql, exclusive=True)


async def until_alone(sql: asyncpg.Connection) -> None:
    """Wait until PostgreSQL has finished the statements of all other connections."""
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(others):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
