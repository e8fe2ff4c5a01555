"""What clients see when PostgreSQL fails under the running service.

In every drill: a response is a success or a proper 503, within the request's deadline; what was
acknowledged is stored once, and everything else at most once; /health stays quick; afterwards the
pool is whole, and the log has one line for each failure.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.server.readiness import REUSE_SECONDS
from persistence.database import RETRY_FOR
from persistence.embedded.postgres import Postgres
from persistence.embedded.valkey import Valkey
from tests.conftest import run_sql
from tests.control import GIVE_UP
from tests.drills.service import (
    Service,
    connected,
    down,
    full_disk,
    locked_tasks,
    new_token,
    stopped,
)
from tests.drills.workload import MARGIN, Workload
from tests.operations import Api, Change, Create, Get, List

pytestmark = pytest.mark.timeout(600)

RECOVERY = 5.0
"""Seconds after a server is back in which every request succeeds again."""

TASKS = List({})


def assert_recovered(workload: Workload, seconds: float) -> None:
    """Require that every request succeeded again in time, for this machine."""
    assert seconds < workload.control.bound(RECOVERY)


# --- PostgreSQL goes away -------------------------------------------------------------------


async def test_reads_survive_a_restart(patient: Service, server: Postgres) -> None:
    async with patient.drill() as workload:
        await asyncio.to_thread(server.restart)
        recovered = await workload.until_ok()

    assert not workload.select("read", ok=False)
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_reads_survive_a_crash_of_two_seconds(patient: Service, server: Postgres) -> None:
    async with patient.drill() as workload:
        async with down(server, 2):
            # An earlier result is not reported any more.
            await asyncio.sleep(REUSE_SECONDS + 0.2)
            ready = await patient.get("/health/ready")
        recovered = await workload.until_ok()

    assert (ready.verdict, ready.body["failing"]) == ("unavailable", "database")
    assert not workload.select("read", ok=False)
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_no_request_waits_for_a_stopped_server_beyond_the_deadline(
    hasty: Service, server: Postgres
) -> None:
    async with hasty.drill() as workload:
        with stopped(server.process):
            # More than there are connections: each of those hangs, and the rest wait for one.
            requests = [hasty.get("/tasks") for _ in range(2 * hasty.connections)]
            responses = await asyncio.gather(*requests)
            # After them, because a readiness response may be a second old.
            ready = await hasty.get("/health/ready")
        recovered = await workload.until_ok()

    assert {response.verdict for response in responses} == {"unavailable"}
    assert min(response.seconds for response in responses) > hasty.deadline - 0.1
    assert max(response.seconds for response in responses) < workload.control.bound(
        hasty.deadline + 0.3
    )
    assert (ready.verdict, ready.body["failing"]) == ("unavailable", "database")
    assert workload.select("create", "change", "delete", ok=False)
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_no_read_fails_when_connections_are_terminated_again_and_again(
    patient: Service, server: Postgres
) -> None:
    async with patient.drill() as workload, connected(server.url()) as sql:
        for _ in range(10):
            await sql.execute(_TERMINATE, "patient")
            await asyncio.sleep(0.1)
        recovered = await workload.until_ok()

    assert not workload.select("read", ok=False)
    assert_recovered(workload, recovered)


_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1
"""


@pytest.mark.drill
async def test_a_terminated_statement_is_503_if_it_writes(patient: Service, url: str) -> None:
    # Two people, because one may hold only half of the pool.
    writer = await new_token(url, "writer")

    async with patient.drill(of_each=0), locked_tasks(url), connected(url) as sql:
        responses = asyncio.gather(
            patient.do_both(TASKS), patient.do_both(Create({"title": "never"}), writer)
        )
        await until(sql, _LOCKED, "patient", at_least=4)
        await sql.execute(_TERMINATE, "patient")
        await asyncio.sleep(0.2)

    reads, writes = await responses
    assert [read.verdict for read in reads] == ["ok", "ok"]
    assert [(write.verdict, write.status) for write in writes] == [
        ("unavailable", 503), ("unavailable", 200),
    ]  # fmt: skip
    async with connected(url) as sql:
        assert not await sql.fetchval("SELECT count(*) FROM tasks WHERE title = 'never'")


_LOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'
"""


async def until(sql: asyncpg.Connection, query: str, *values: Any, at_least: int) -> None:
    """Wait until a query counts so many."""
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(query, *values) < at_least:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)


async def until_cancelled(sql: asyncpg.Connection) -> None:
    """Wait until none of the service's statements waits for a lock any more."""
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval(_LOCKED, "hasty"):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)


async def test_a_locked_row_is_503_at_the_deadline_and_its_statements_are_cancelled(
    hasty: Service, url: str
) -> None:
    task_id = await new_task(hasty)

    async with hasty.drill() as workload:
        async with connected(url) as other, other.transaction():
            await other.execute(_LOCK_ROW, task_id)
            locked = await hasty.do_both(Change(task_id, {"title": "x"}))
            answered = time.monotonic()
            await until_cancelled(other)
            cancelled = time.monotonic() - answered
        after = await hasty.do(Api.REST, Get(task_id))
        free = await hasty.do_both(Change(task_id, {"title": "y"}))

    assert [(response.verdict, response.status) for response in locked] == [
        ("unavailable", 503), ("unavailable", 200),
    ]  # fmt: skip
    assert min(response.seconds for response in locked) > hasty.deadline - 0.1
    assert max(response.seconds for response in locked) < workload.control.bound(
        hasty.deadline + 0.5
    )
    assert cancelled < workload.control.bound(1)
    assert after.body["version"] == 1
    assert all(response.is_ok for response in free)
    assert not workload.select(ok=False)


_LOCK_ROW = "SELECT FROM tasks WHERE id = $1 FOR UPDATE"


async def new_task(service: Service) -> int:
    """The id of a task that no workload uses."""
    task_id: int = (await service.do(Api.REST, Create({"title": "locked"}))).body["id"]
    return task_id


# --- PostgreSQL refuses ---------------------------------------------------------------------


@pytest.mark.drill
async def test_a_read_only_server_is_read_from(patient: Service, url: str) -> None:
    async with patient.drill() as workload:
        async with connected(url) as sql:
            await sql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await sql.execute("SELECT pg_reload_conf()")
            await until_read_only(sql)
            # The other connections were sent the same signal at the same time.
            await asyncio.sleep(0.3)
            since = time.monotonic()
            await asyncio.sleep(0.7)
            until = time.monotonic()
            await sql.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            await sql.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await sql.execute("SELECT pg_reload_conf()")
        recovered = await workload.until_ok()

    meanwhile = [response for response in workload.select(since=since) if response.ended < until]
    assert {response.is_ok for response in meanwhile if response.kind == "read"} == {True}
    assert {response.is_ok for response in meanwhile if response.kind != "read"} == {False}
    assert_recovered(workload, recovered)


async def until_read_only(sql: asyncpg.Connection) -> None:
    """Wait until a connection uses the new setting."""
    async with asyncio.timeout(GIVE_UP):
        while await sql.fetchval("SHOW default_transaction_read_only") != "on":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.drill
async def test_a_full_disk_is_read_from(patient: Service, server: Postgres, url: str) -> None:
    async with patient.drill() as workload:
        async with full_disk(server, url) as kind:
            long = Create({"title": "long", "description": random.randbytes(500).hex()})
            # The table's own pages may have room for some, but not for a megabyte.
            for _ in range(1000):
                response = await patient.do(Api.REST, long)
                if not response.is_ok:
                    break
            reads = await patient.do_both(TASKS)
        recovered = await workload.until_ok()

    print(f"disk: {kind}")
    assert response.verdict == "unavailable"
    assert all(read.is_ok for read in reads)
    assert_recovered(workload, recovered)
    await run_sql(url, "DELETE FROM tasks WHERE title = 'long'")


@pytest.mark.drill
async def test_a_server_without_free_connections_is_used_through_the_existing_ones(
    hasty: Service, server: Postgres
) -> None:
    async with hasty.drill(of_each=4) as workload:
        async with connected(server.url()) as sql, all_connections_of(server) as taken:
            await asyncio.sleep(0.7)
            failed = workload.select(ok=False)
            async with asyncio.timeout(GIVE_UP):
                while (ready := await hasty.get("/health/ready")).is_ok:
                    await sql.execute(_TERMINATE, "hasty")
                    taken += await connections_of(server)
            await asyncio.sleep(0.5)
        recovered = await workload.until_ok()

    assert not failed
    assert (ready.verdict, ready.body.get("failing")) == ("unavailable", "database")
    assert workload.select("read", ok=False)
    assert_recovered(workload, recovered)


@asynccontextmanager
async def all_connections_of(server: Postgres) -> AsyncIterator[list[asyncpg.Connection]]:
    """All free connections of a server are taken."""
    taken = await connections_of(server)
    try:
        yield taken
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))


async def connections_of(server: Postgres) -> list[asyncpg.Connection]:
    """As many new connections as a server has."""
    taken: list[asyncpg.Connection] = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            attempts = [asyncpg.connect(server.url()) for _ in range(10)]
            results = await asyncio.gather(*attempts, return_exceptions=True)
            taken += [each for each in results if isinstance(each, asyncpg.Connection)]
            for each in results:
                if isinstance(each, BaseException):
                    raise each
    return taken


@pytest.mark.drill
async def test_an_instance_that_started_without_its_database_finds_it(
    server: Postgres, url: str, token: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    await asyncio.to_thread(server.stop)
    try:
        async with Service.on(url, log, token, name="early", deadline=1) as service:
            early = await service.do_both(TASKS)
            # All of them look for the sessions at once, while the server starts.
            rush = [asyncio.create_task(service.do_both(TASKS)) for _ in range(10)]
            await asyncio.to_thread(server.start)
            rushed = await asyncio.gather(*rush)
            async with service.drill() as workload:
                recovered = await workload.until_ok()
    finally:
        if server.process.poll() is not None:
            await asyncio.to_thread(server.start)

    assert [(response.verdict, response.status) for response in early] == [("unavailable", 503)] * 2
    assert {response.verdict for pair in rushed for response in pair} <= {"ok", "unavailable"}
    assert log.read_text().count("not ready: database: ") == 1
    assert_recovered(workload, recovered)


# --- For longer -----------------------------------------------------------------------------


@pytest.mark.drill
async def test_one_failure_after_another(
    patient: Service, server: Postgres, valkey: Valkey
) -> None:
    async def restart() -> None:
        await asyncio.to_thread(server.restart)

    async def crash() -> None:
        async with down(server, random.uniform(0, 2)):
            pass

    async def stop() -> None:
        with stopped(server.process):
            await asyncio.sleep(random.uniform(0, 2))

    async def terminate() -> None:
        async with connected(server.url()) as sql:
            await sql.execute(_TERMINATE, "patient")

    async with patient.drill(of_each=4) as workload:
        for fail in random.sample([restart, crash, stop, terminate] * 4, 16):
            await fail()
            await asyncio.sleep(random.uniform(0, 1.5))
        recovered = await workload.until_ok()

    assert not workload.select("read", ok=False)
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_thirty_connections_that_all_hang_are_replaced(
    url: str, token: str, server: Postgres, tmp_path: Path
) -> None:
    async with Service.on(
        url, tmp_path / "log", token, name="large", deadline=10, pool=(10, 20)
    ) as service:
        await service.assert_whole()  # Which opens all thirty.
        async with service.drill() as workload:
            with stopped(server.process):
                rush = [service.get("/tasks") for _ in range(90)]
                responses = await asyncio.gather(*rush)
            recovered = await workload.until_ok()

    assert {response.verdict for response in responses} == {"unavailable"}
    slowest = max(response.seconds for response in responses)
    assert slowest < workload.control.bound(service.deadline + MARGIN)
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_a_database_that_is_down_for_long_is_503_until_it_is_back(
    patient: Service, server: Postgres
) -> None:
    async with patient.drill(of_each=10) as workload:
        async with down(server, 14):
            early = await asyncio.gather(*(patient.get("/tasks") for _ in range(100)))
            # These have most of their time left for PostgreSQL's start, which takes seconds on a
            # slow machine. Then it is back for all of them at the same moment.
            await asyncio.sleep(4)
            late = [asyncio.create_task(patient.get("/tasks")) for _ in range(100)]
        recovered = await workload.until_ok()

    assert {response.verdict for response in early} == {"unavailable"}
    assert early[0].seconds > RETRY_FOR - 1
    assert {response.verdict for response in await asyncio.gather(*late)} == {"ok"}
    assert_recovered(workload, recovered)


@pytest.mark.drill
async def test_sixty_changes_that_wait_for_one_row_are_503_and_leave_nothing(
    hasty: Service, url: str
) -> None:
    task_id = await new_task(hasty)

    async with hasty.drill():
        for _ in range(2):  # One person's 60 take eight deadlines: few of them run at once.
            async with connected(url) as other, other.transaction():
                await other.execute(_LOCK_ROW, task_id)
                changes = [Change(task_id, {"title": f"{number}"}) for number in range(60)]
                responses = await asyncio.gather(*(hasty.do(Api.REST, each) for each in changes))
                # A statement that gets its lock before the cancellation arrives would be executed.
                await until_cancelled(other)
            assert {response.verdict for response in responses} == {"unavailable"}

    assert (await hasty.do(Api.REST, Get(task_id))).body["version"] == 1
