"""Deploys: instances stop, start and are replaced, and no request fails.

Instances are black boxes here: processes behind sockets.
"""

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
from tests.control import GIVE_UP, Control
from tests.drills.nginx import load_balancer, require_nginx
from tests.drills.service import locked_tasks
from tests.drills.traffic import Traffic
from tests.log_lines import has_exception
from tests.operations import Api
from tests.people import SESSION_TABLES, sign_in
from tests.servers import COMMAND, free_port, served
from tests.surfaces import ApiError, GraphQLSurface, RestSurface

pytestmark = pytest.mark.timeout(600)

UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app")
WORKERS = ("--workers", "2")

DRAIN = 1.4
"""Seconds of drain in the tests that wait for its end."""

LONG_DRAIN = "300"
"""Seconds of drain in the tests that end it early: no wait here is so long."""


# --- An instance stops --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "signal_delay"),
    [
        pytest.param(COMMAND, 0.5, id="twofold serve"),
        pytest.param(
            (*COMMAND, *WORKERS), 0.5, marks=pytest.mark.drill, id="twofold serve --workers"
        ),
        pytest.param(UVICORN, 0.5, marks=pytest.mark.drill, id="uvicorn"),
        # uvicorn's parent process handles signals twice a second, ours at once.
        pytest.param((*UVICORN, *WORKERS), 1.0, marks=pytest.mark.drill, id="uvicorn --workers"),
    ],
)
async def test_no_request_fails_when_an_instance_stops(
    command: tuple[str, ...], signal_delay: float, database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url, *command, DRAIN_SECONDS=str(DRAIN)) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada")
        both = (ada, replace(ada, surface=GraphQLSurface(client)))
        async with (
            Control.running() as control,
            new_connections(client, ada.token) as another,
            asyncio.TaskGroup() as group,
            locked_tasks(database_url),
        ):
            slow = [group.create_task(each.create_task("slow")) for each in both]
            await until_waiting(sql, 2)
            process.terminate()
            terminated = time.monotonic()

            unready, since = await until_unready(another)
            alive = await another.get("/health")
            viewer = await another.get("/graphql?query={viewer{userId}}")
            await require_answers(another, until=terminated + DRAIN)
            await asyncio.sleep(1)
            is_waiting = process.returncode is None and not any(each.done() for each in slow)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert since - terminated < control.bound(signal_delay)
    assert (unready["type"], unready["detail"]) == (
        "service_unavailable",
        "Not ready: instance: it is draining",
    )
    assert [answer.status_code for answer in (alive, viewer)] == [200, 200]
    assert [answer.headers["Connection"] for answer in (alive, viewer)] == ["close", "close"]
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
@pytest.mark.drill
async def test_a_second_signal_ends_the_drain(
    number: Signals, workers: tuple[str, ...], database_url: str
) -> None:
    async with served(database_url, *COMMAND, *workers, DRAIN_SECONDS=LONG_DRAIN) as (
        client,
        process,
    ):
        process.terminate()
        async with new_connections(client) as another:
            await until_unready(another)
        # A service manager signals all processes, and a parent then signals its workers again.
        for each in processes_of(process):
            each.terminate()
        await asyncio.sleep(1.2)
        is_draining = process.returncode is None
        process.send_signal(number)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert is_draining
    assert code == 0


@pytest.mark.drill
async def test_a_second_ctrl_c_is_503_to_requests_that_still_wait(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with served(database_url) as (client, process):
        ada = await sign_in(sql, RestSurface(client), "ada")
        both = (ada, replace(ada, surface=GraphQLSurface(client)))
        async with locked_tasks(database_url):
            creating = [each.create_task("never") for each in both]
            answers = asyncio.gather(*creating, return_exceptions=True)
            await until_waiting(sql, 2)
            for _ in range(2):
                process.send_signal(SIGINT)
                await asyncio.sleep(0.3)
            errors = [error for error in await answers if isinstance(error, ApiError)]
            await process.wait()

    assert [(error.api, error.status, error.problem["type"]) for error in errors] == [
        (Api.REST, 503, "service_unavailable"),
        (Api.GRAPHQL, 503, "service_unavailable"),
    ]
    assert not await sql.fetchval("SELECT count(*) FROM tasks WHERE title = 'never'")


async def test_ctrl_c_does_not_drain(database_url: str) -> None:
    async with served(database_url, DRAIN_SECONDS=LONG_DRAIN) as (_, process):
        process.send_signal(SIGINT)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert code == 0


async def test_dev_stops_at_once(database_url: str) -> None:
    dev = (sys.executable, "-m", "api.cli", "dev")
    async with served(database_url, *dev, DRAIN_SECONDS=LONG_DRAIN) as (_, process):
        process.terminate()
        await asyncio.wait_for(process.wait(), GIVE_UP)


def test_only_production_drains_by_default() -> None:
    production = {
        "environment": "production",
        "redis_url": "redis://127.0.0.1",
        "cors_origins": "https://app.example.com",
    }

    def drain(**values: object) -> float:
        settings: Settings = settings_of_tests(database_url="postgresql://127.0.0.1/x", **values)
        return settings.drain

    assert drain() == 0
    assert drain(**production) == 5
    assert drain(**production, drain_seconds=0) == 0
    for invalid in (-1, 301, float("nan")):
        with pytest.raises(ValueError, match="drain_seconds"):
            drain(drain_seconds=invalid)


async def until_waiting(sql: asyncpg.Connection, requests: int) -> None:
    """Wait until so many requests wait for the table of tasks."""
    locks = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass"
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(locks) < requests:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def new_connections(
    client: httpx.AsyncClient, token: str = "none"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that opens a connection for every request."""
    async with httpx.AsyncClient(
        base_url=client.base_url,
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as another:
        yield another


async def until_unready(another: httpx.AsyncClient) -> tuple[dict[str, str], float]:
    """Wait until every process reports that it is not ready.

    Returns:
        The report, and the time of the first one after the last that was ready.
    """
    reports, since = 0, 0.0
    async with asyncio.timeout(GIVE_UP):
        while reports < 8:
            answer = await another.get("/health/ready")
            reports = reports + 1 if answer.status_code == 503 else 0
            since = time.monotonic() if reports <= 1 else since
    return answer.json(), since


async def require_answers(another: httpx.AsyncClient, until: float) -> None:
    """Require that every request succeeds and closes its connection, until this time."""
    while time.monotonic() < until:
        try:
            answer = await another.get("/health")
        except httpx.TransportError:
            # After that time a request may fail, and the machine may have made this one late.
            if time.monotonic() < until:
                raise
            return
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        await asyncio.sleep(0.05)


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


# --- An instance cannot start -------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        pytest.param(COMMAND, {1}, id="twofold serve"),
        pytest.param(UVICORN, {1}, id="uvicorn"),
        # Each worker logs it, unless the other one ended both.
        pytest.param(
            (*COMMAND, *WORKERS), {1, 2}, id="twofold serve --workers", marks=pytest.mark.drill
        ),
    ],
)
@pytest.mark.drill
async def test_unusable_sessions_are_logged_in_one_sentence(
    command: tuple[str, ...], counts: set[int], sessionless: str
) -> None:
    settings = {
        "DATABASE_URL": sessionless, "SESSION_HASH_SECRET": HASH_SECRET,
        "ENVIRONMENT": "testing", "PORT": "0", "UVICORN_PORT": "0",
    }  # fmt: skip
    ended = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=GIVE_UP,
    )

    sentences = re.findall(
        r"(?i)error.*There is no table user_sessions in the database", ended.stderr
    )
    assert len(sentences) in counts
    assert not has_exception(ended.stderr)
    assert ended.returncode == 3


@pytest.fixture(scope="module")
async def sessionless(postgres: Postgres) -> str:
    """A database without the auth server's tables."""
    return await new_database(postgres, "sessionless")


# --- Deploys under load -------------------------------------------------------------------


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
    _, newest = migrations._revisions()
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


async def replaced(process: asyncio.subprocess.Process, before: set[psutil.Process]) -> None:
    """Wait until there are two new workers and none of those before."""
    assert len(before) == 2
    async with asyncio.timeout(GIVE_UP):
        while True:
            workers = set(processes_of(process)[1:])
            if len(workers) == 2 and workers.isdisjoint(before):
                return
            await asyncio.sleep(0.1)


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

        env.write_text(f"{good}CORS_ORIGINS={NEW}\n")
        workers = processes_of(process)[1:]
        process.send_signal(SIGHUP)
        await replaced(process, set(workers))
        mended = await origins_of(client)
        process.terminate()
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    [error] = errors
    assert "ENVIRONMENT: " in error
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


async def until_logged(log: Path, text: str, times: int = 1) -> None:
    """Wait until a log has a text so often."""
    async with asyncio.timeout(GIVE_UP):
        while _count(log, text) < times:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


def _count(log: Path, text: str) -> int:
    return log.read_text().count(text)


async def origins_of(client: httpx.AsyncClient) -> set[str]:
    """The allowed origins of all workers that answer one of twenty new connections."""
    allowed = set()
    async with new_connections(client) as another:
        for origin in (OLD, NEW) * 10:
            answer = await another.get("/health", headers={"Origin": origin})
            allowed.add(answer.headers.get("Access-Control-Allow-Origin"))
    return allowed - {None}


@pytest.mark.drill
@pytest.mark.parametrize("requests", [40, 200, 400, 800])
async def test_what_an_instance_acknowledged_is_stored_when_it_is_killed(
    requests: int, own_database: str, own_sql: asyncpg.Connection, token: str
) -> None:
    async with served(own_database) as (client, process):
        async with Traffic.at(str(client.base_url), token, keeping_connections=12) as traffic:
            await traffic.until(requests)
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
