"""Writes that are repeated until they are answered: done once, whatever fails between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.processes import free_port
from persistence.migrations import upgrade
from tests.conftest import new_database, run_sql
from tests.drills.retrying import LosingProxy, Retrying
from tests.drills.service import Service, connected, down, new_token
from tests.operations import Api, Change, Create
from tests.people import SESSION_TABLES
from tests.servers import COMMAND, served
from tests.surfaces import SURFACES, idempotency_key, is_replayed

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def own_url(server: Postgres) -> str:
    """A database without other tasks."""
    url = await new_database(server, f"once_{random.randrange(10**9)}")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    return url


class Instance:
    """An instance that can be killed, and is started again on its port."""

    def __init__(self, database_url: str) -> None:
        self.port = free_port()
        self.kills = 0
        self._url = database_url
        self._killed = asyncio.Event()
        self._is_over = False
        self._is_up = asyncio.Event()

    async def run(self) -> None:
        while not self._is_over:
            self._killed.clear()
            async with served(
                self._url, *COMMAND, PORT=str(self.port), LOG_LEVEL="CRITICAL"
            ) as (_, process):  # fmt: skip
                self._is_up.set()
                await self._killed.wait()
                if not self._is_over:
                    process.kill()

    async def until_up(self) -> None:
        await self._is_up.wait()

    def kill(self) -> None:
        self.kills += 1
        self._is_up.clear()
        self._killed.set()

    def end(self) -> None:
        self._is_over = True
        self._killed.set()


@asynccontextmanager
async def instances(url: str, number: int) -> AsyncIterator[list[Instance]]:
    several = [Instance(url) for _ in range(number)]
    running = [asyncio.create_task(each.run()) for each in several]
    try:
        await asyncio.gather(*(each.until_up() for each in several))
        yield several
    finally:
        for each in several:
            each.end()
        await asyncio.gather(*running)


async def drilled(
    url: str, server: Postgres, writes: int, *, has_keys: bool, every: float, rounds: int
) -> Retrying:
    """So many writes through a proxy that loses responses, while instances and PostgreSQL end.

    Args:
        every: seconds between two failures.
        rounds: how often an instance is killed and PostgreSQL restarts, while there are writes.
    """
    tokens = [await new_token(url, f"writer {number}") for number in range(4)]

    async def fail() -> None:
        for _ in range(rounds):
            await asyncio.sleep(every)
            instance = random.choice(several)
            instance.kill()
            await instance.until_up()
            await asyncio.sleep(every)
            await asyncio.to_thread(server.restart)

    async with (
        instances(url, 2) as several,
        LosingProxy.before(*(each.port for each in several)) as proxy,
    ):
        clients = Retrying(proxy.url, tokens, has_keys)
        failing = asyncio.create_task(fail())
        await clients.run(writes)
        failing.cancel()
        with suppress(asyncio.CancelledError):
            await failing
        print(dict(proxy.fates), [each.kills for each in several])
    return clients


async def judge(url: str, clients: Retrying) -> None:
    async with connected(url) as sql:
        await clients.assert_exact(sql)


@pytest.mark.drill
async def test_with_keys_each_write_is_done_once(own_url: str, server: Postgres) -> None:
    clients = await drilled(own_url, server, 400, has_keys=True, every=0.5, rounds=1)

    assert clients.attempts > clients.acknowledged >= 400
    await judge(own_url, clients)


@pytest.mark.drill
async def test_without_keys_the_same_drill_fails(own_url: str, server: Postgres) -> None:
    clients = await drilled(own_url, server, 150, has_keys=False, every=0.5, rounds=1)

    with pytest.raises(AssertionError, match=r"'twice': [1-9]"):
        await judge(own_url, clients)


@pytest.mark.drill
async def test_ten_thousand_writes_are_done_once(own_url: str, server: Postgres) -> None:
    clients = await drilled(own_url, server, 10_000, has_keys=True, every=3, rounds=1000)

    assert clients.acknowledged >= 10_000
    await judge(own_url, clients)


# --- Inside -------------------------------------------------------------------------------


@pytest.mark.drill
@pytest.mark.parametrize("seconds", [0, 2], ids=["restart", "crash of two seconds"])
async def test_no_write_with_a_key_fails_when_postgresql_is_away(
    patient: Service, server: Postgres, seconds: int
) -> None:
    """The clients send each write once."""
    failures: list[object] = []
    written = 0
    is_over = False

    async def write(api: Api, number: int) -> None:
        nonlocal written
        while not is_over:
            operation = Create({"title": f"{api} {number}"})
            key = f"{api} {number} {seconds} {written} {random.random()}"
            request = SURFACES[api].encode(operation)
            headers = {**request.headers, **idempotency_key(key)}
            response = await patient.send(request._replace(headers=headers))
            written += 1
            if not response.is_ok:
                failures.append(response)
            await asyncio.sleep(0.005)

    writers = [asyncio.create_task(write(api, number)) for number in range(4) for api in Api]
    await asyncio.sleep(0.5)
    if seconds:
        async with down(server, seconds):
            pass
    else:
        await asyncio.to_thread(server.restart)
    await asyncio.sleep(1)
    is_over = True
    await asyncio.gather(*writers)

    assert written > 50
    assert not failures, f"{len(failures)} of {written}: {failures[:2]}"


async def test_a_statement_whose_connection_is_terminated_is_done_all_the_same(
    patient: Service, url: str
) -> None:
    """Its connection ends while it runs, so it is sent again inside the request."""
    [created, _] = await patient.do_both(Create({"title": "wait"}))
    change = Change(str(created.body["id"]), {"completed": True})
    request = SURFACES[Api.REST].encode(change)
    headers = {**request.headers, **idempotency_key("terminated")}
    async with connected(url) as sql:
        async with sql.transaction():
            await sql.execute("SELECT FROM tasks FOR UPDATE")
            sending = asyncio.create_task(patient.send(request._replace(headers=headers)))
            async with asyncio.timeout(20):
                while not await sql.fetchval(_TERMINATE, patient.name):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        response = await sending

    assert (response.is_ok, response.body["version"]) == (True, 2)
    assert not is_replayed(Api.REST, response.response)


_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_stat_get_activity(NULL) a USING (pid)
WHERE locktype = 'transactionid' AND NOT granted AND application_name = $1
"""
