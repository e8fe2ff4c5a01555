"""Instances come and go, and nobody notices. As black boxes, over sockets."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import asyncpg
import httpx
import psutil
import pytest

from alembic import command as alembic
from api.settings import Settings
from persistence import migrations
from persistence.embedded.postgres import Postgres
from tests.conftest import HASH_SECRET, ROOT, new_database, run_sql, settings_of_tests
from tests.drills.nginx import load_balancer, needed
from tests.drills.traffic import Traffic
from tests.people import SESSION_TABLES, sign_in
from tests.servers import COMMAND, free_port, served
from tests.surfaces import GraphQLSurface, RestSurface

UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app")
WORKERS = ("--workers", "2")

DRAIN = 1.4
"""Seconds of drain in the short tests."""


# --- One instance is told to stop ---------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "at_once"),
    [
        pytest.param(COMMAND, 0.5, id="twofold serve"),
        pytest.param((*COMMAND, *WORKERS), 1.0, id="twofold serve --workers"),
        pytest.param(UVICORN, 0.5, id="uvicorn"),
        # uvicorn's parent process looks for signals twice a second.
        pytest.param((*UVICORN, *WORKERS), 1.0, id="uvicorn --workers"),
    ],
)
async def test_an_instance_that_is_told_to_stop_turns_nobody_away(
    command: tuple[str, ...], at_once: float, database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url, *command, DRAIN_SECONDS=str(DRAIN)) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        doors = (ada, replace(ada, surface=GraphQLSurface(client)))
        async with (
            newcomer(client, ada.token) as another,
            asyncio.TaskGroup() as group,
            held_up(database_url),
        ):
            slow = [group.create_task(door.create_task("slow")) for door in doors]
            await waiting(sql, 2)
            process.terminate()
            told = time.monotonic()

            unready, since = await until_unready(another)
            alive = await another.get("/health")
            viewer = await another.get("/graphql?query={viewer{userId}}")
            await asyncio.sleep(told + DRAIN - 0.4 - time.monotonic())
            late = await another.get("/health")
            await asyncio.sleep(1.2)
            is_waiting = process.returncode is None and not any(each.done() for each in slow)
        code = await asyncio.wait_for(process.wait(), 8)

    assert since - told < at_once
    assert (unready["type"], unready["detail"]) == (
        "service_unavailable",
        "Not ready: instance: it is draining",
    )
    assert [answer.status_code for answer in (alive, viewer, late)] == [200, 200, 200]
    assert [answer.headers["Connection"] for answer in (alive, viewer, late)] == ["close"] * 3
    assert is_waiting
    assert [each.result().title for each in slow] == ["slow", "slow"]
    assert code == 0


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(SIGTERM, (), id="SIGTERM"),
        pytest.param(SIGINT, (), id="SIGINT"),
        pytest.param(SIGTERM, WORKERS, id="SIGTERM, workers", marks=pytest.mark.drill),
    ],
)
async def test_a_second_signal_ends_the_drain(
    number: Signals, workers: tuple[str, ...], database_url: str
) -> None:
    async with served(database_url, *COMMAND, *workers, DRAIN_SECONDS="20") as (client, process):
        process.terminate()
        async with newcomer(client) as another:
            await until_unready(another)
        # A service manager tells all processes, whereupon a parent tells its workers once more.
        for each in processes_of(process):
            each.terminate()
        await asyncio.sleep(1.2)
        is_draining = process.returncode is None
        process.send_signal(number)
        code = await asyncio.wait_for(process.wait(), 8)

    assert is_draining
    assert code == 0


async def test_a_second_ctrl_c_is_503_to_whoever_still_waits(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        identity = {"Authorization": f"Bearer {ada.token}"}
        async with held_up(database_url):
            asked = [
                client.post("/tasks", json={"title": "never"}, headers=identity),
                client.post("/graphql", json={"query": _NEVER}, headers=identity),
            ]
            answers = asyncio.gather(*asked)
            await waiting(sql, 2)
            for _ in range(2):
                process.send_signal(SIGINT)
                await asyncio.sleep(0.3)
            rest, graphql = await answers
            await process.wait()

    [error] = graphql.json()["errors"]
    assert (rest.status_code, rest.json()["type"]) == (503, "service_unavailable")
    assert (graphql.status_code, error["extensions"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert not await sql.fetchval("SELECT count(*) FROM tasks WHERE title = 'never'")


_NEVER = 'mutation { createTask(input: {title: "never"}) { id } }'


async def test_ctrl_c_does_not_drain(database_url: str) -> None:
    async with served(database_url, DRAIN_SECONDS="20") as (_, process):
        process.send_signal(SIGINT)
        code = await asyncio.wait_for(process.wait(), 8)

    assert code == 0


async def test_dev_stops_at_once(database_url: str) -> None:
    dev = (sys.executable, "-m", "api.cli", "dev")
    async with served(database_url, *dev, DRAIN_SECONDS="20") as (_, process):
        process.terminate()
        await asyncio.wait_for(process.wait(), 8)


def test_only_production_drains_by_itself() -> None:
    production = {
        "environment": "production",
        "redis_url": "redis://127.0.0.1",
        "cors_origins": "https://app.example.com",
    }

    def drain(**given: object) -> float:
        settings: Settings = settings_of_tests(database_url="postgresql://127.0.0.1/x", **given)
        return settings.drain

    assert drain() == 0
    assert drain(**production) == 5
    assert drain(**production, drain_seconds=0) == 0
    for wrong in (-1, 301, float("nan")):
        with pytest.raises(ValueError, match="drain_seconds"):
            drain(drain_seconds=wrong)


@asynccontextmanager
async def held_up(database_url: str) -> AsyncIterator[None]:
    """Whoever wants the table of tasks has to wait for the end of the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waiting(sql: asyncpg.Connection, requests: int) -> None:
    """Return when so many wait for the table."""
    locks = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass"
    async with asyncio.timeout(5):
        while True:
            if await sql.fetchval(locks) >= requests:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def newcomer(
    client: httpx.AsyncClient, token: str = "none"
) -> AsyncIterator[httpx.AsyncClient]:
    """Someone who comes with a new connection for every request."""
    async with httpx.AsyncClient(
        base_url=client.base_url,
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as another:
        yield another


async def until_unready(another: httpx.AsyncClient) -> tuple[dict[str, str], float]:
    """Wait until every process says that it is not ready; what it says, and since when."""
    said, since = 0, 0.0
    async with asyncio.timeout(5):
        while said < 8:
            answer = await another.get("/health/ready")
            said = said + 1 if answer.status_code == 503 else 0
            since = time.monotonic() if said <= 1 else since
    return answer.json(), since


def processes_of(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """A process and its workers."""
    parent = psutil.Process(process.pid)
    return [parent, *filter(_is_worker, parent.children())]


def _is_worker(process: psutil.Process) -> bool:
    try:
        # Not the one with which Python's multiprocessing counts semaphores.
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # It has just ended.
        return False


# --- One that cannot start ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "tellers"),
    [
        pytest.param(COMMAND, {1}, id="twofold serve"),
        pytest.param(UVICORN, {1}, id="uvicorn"),
        # Each worker says so, unless the other was quicker.
        pytest.param(
            (*COMMAND, *WORKERS), {1, 2}, id="twofold serve --workers", marks=pytest.mark.drill
        ),
    ],
)
async def test_unusable_sessions_are_told_in_one_sentence(
    command: tuple[str, ...], tellers: set[int], sessionless: str
) -> None:
    settings = {
        "DATABASE_URL": sessionless, "SESSION_HASH_SECRET": HASH_SECRET,
        "ENVIRONMENT": "testing", "PORT": "0", "UVICORN_PORT": "0",
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=20
    )

    sentences = re.findall(r"ERROR.*There is no table user_sessions in the database", done.stderr)
    assert len(sentences) in tellers
    assert "Traceback" not in done.stderr
    assert done.returncode == 3


@pytest.fixture(scope="module")
async def sessionless(postgres: Postgres) -> str:
    """A database that the auth server has not seen yet."""
    return await new_database(postgres, "sessionless")


# --- Deploys under load -------------------------------------------------------------------


@pytest.fixture
async def own_database(postgres: Postgres, tmp_path: Path) -> AsyncIterator[str]:
    """A database that may be migrated further than this build goes."""
    name = f"deploys_{tmp_path.name}"
    url = await new_database(postgres, name)
    await asyncio.to_thread(migrations.upgrade, url)
    await run_sql(url, SESSION_TABLES)
    yield url
    await run_sql(postgres.url("postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def own_sql(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A look at it."""
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


@pytest.fixture
async def token(own_sql: asyncpg.Connection) -> str:
    """Ada's."""
    async with httpx.AsyncClient() as nowhere:
        ada = await sign_in(own_sql, RestSurface(nowhere), "ada", HASH_SECRET)
    return ada.token


@pytest.mark.drill
@pytest.mark.timeout(150)
async def test_a_rolling_deploy_with_a_migration_fails_nobody(
    own_database: str, own_sql: asyncpg.Connection, token: str, tmp_path: Path
) -> None:
    needed()
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
        # Everyone's last answers, before nginx goes.
        await traffic.end()

    traffic.assert_flawless()
    assert traffic.requests >= 10_000
    assert ready_on_newer_schema == {port for port, _ in old}
    assert routed.isdisjoint(port for port, _ in old)
    await traffic.assert_stored(own_sql)
    assert await own_sql.fetchval("SELECT version_num FROM alembic_version") == NEXT_REVISION
    assert await own_sql.fetchval("SELECT count(priority) FROM tasks") == 0


NEXT_REVISION = "2999_01_01_expand_tasks"

EXPANSION = f'''
"""What a next release might bring."""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "%s"

def upgrade():
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("tasks", sa.Column("priority", sa.Integer(), nullable=True))
'''


def expand(database_url: str, folder: Path) -> None:
    """Migrate as the next release does: to a schema of which this build has never heard."""
    scripts = folder / "alembic"
    shutil.copytree(ROOT / "alembic", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    _, newest = migrations._revisions()
    (scripts / "versions" / f"{NEXT_REVISION}.py").write_text(EXPANSION % newest)
    config = migrations.config(database_url)
    config.set_main_option("script_location", str(scripts))
    alembic.upgrade(config, "head")


@pytest.mark.drill
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "command",
    [
        # Or it gives up on a new worker that takes 5 s to start, as beside this traffic it may.
        pytest.param((*UVICORN, "--timeout-worker-healthcheck", "30"), id="uvicorn"),
        pytest.param(COMMAND, id="twofold serve"),
    ],
)
async def test_workers_replaced_on_sighup_fail_nobody(
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
    await traffic.assert_stored(own_sql)
    assert code == 0


async def replaced(process: asyncio.subprocess.Process, before: set[psutil.Process]) -> None:
    """Wait until there are two workers, and none of those before."""
    assert len(before) == 2
    async with asyncio.timeout(30):
        while True:
            workers = set(processes_of(process)[1:])
            if len(workers) == 2 and workers.isdisjoint(before):
                return
            await asyncio.sleep(0.1)


@pytest.mark.drill
@pytest.mark.timeout(150)
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
        await until_logged(log, " ERROR ")
        errors = [line for line in log.read_text().splitlines() if " ERROR " in line]
        kept = processes_of(process)[1:]
        workers[0].kill()
        await until_logged(log, "startup complete", 3)
        while_wrong = await origins_of(client)

        # Nothing is wrong with these, until a worker looks for its table.
        env.write_text(f"{good}CORS_ORIGINS={NEW}\nSESSION_TABLE=nowhere\n")
        process.send_signal(SIGHUP)
        await until_logged(log, "previous settings are in use again")
        workers[1].kill()
        await until_logged(log, "startup complete", 4)
        while_unusable = await origins_of(client)

        env.write_text(f"{good}CORS_ORIGINS={NEW}\n")
        workers = processes_of(process)[1:]
        process.send_signal(SIGHUP)
        await replaced(process, set(workers))
        mended = await origins_of(client)
        process.terminate()
        code = await asyncio.wait_for(process.wait(), 10)

    [error] = errors
    assert "ENVIRONMENT: " in error
    assert "LOG_LEVEL: " in error
    assert len(kept) == 2
    assert while_wrong == while_unusable == {OLD}
    assert mended == {NEW}
    assert "Traceback" not in log.read_text()
    assert code == 0


OLD, NEW = "https://old.example", "https://new.example"


@asynccontextmanager
async def serving_from(
    folder: Path, log: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """Two workers that find all their settings in the `.env` of a folder."""
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


async def until_logged(log: Path, words: str, times: int = 1) -> None:
    """Wait until a log has these words so often."""
    async with asyncio.timeout(30):
        while _times(log, words) < times:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


def _times(log: Path, words: str) -> int:
    return log.read_text().count(words)


async def origins_of(client: httpx.AsyncClient) -> set[str]:
    """Which of the origins may call, of as many workers as answer twenty newcomers."""
    allowed = set()
    async with newcomer(client) as another:
        for origin in (OLD, NEW) * 10:
            answer = await another.get("/health", headers={"Origin": origin})
            allowed.add(answer.headers.get("Access-Control-Allow-Origin"))
    return allowed - {None}


@pytest.mark.drill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("requests", [40, 200, 400, 800])
async def test_what_was_acknowledged_outlives_a_killed_instance(
    requests: int, own_database: str, own_sql: asyncpg.Connection, token: str
) -> None:
    async with served(own_database) as (client, process):
        async with Traffic.at(str(client.base_url), token, keeping_connections=12) as traffic:
            await traffic.until(requests)
            process.send_signal(SIGKILL)
            await process.wait()
        await gone(own_sql)

    assert traffic.in_doubt, "nobody was writing"
    await traffic.assert_stored(own_sql)


async def gone(sql: asyncpg.Connection) -> None:
    """Wait until PostgreSQL has finished with everybody else's statements."""
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(10):
        while True:
            if not await sql.fetchval(others):
                return
            await asyncio.sleep(0.02)
