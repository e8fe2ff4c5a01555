"""All attacks at once, beside an honest client whose calm latency is measured in the same run."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import psutil
import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.migrations import upgrade
from tests.conftest import ROOT, new_database, run_sql
from tests.log_lines import has_exception
from tests.people import HASH_SECRET, SESSION_TABLES, sign_in
from tests.servers import COMMAND, served
from tests.siege.every_attack import Target
from tests.surfaces import RestSurface

HONEST_PEOPLE: Final = 60
"""Each has the usual budget, which lasts for as many requests as can follow one another."""

SLOWDOWN: Final = 10
"""How many times slower than in calm the honest client may be served, at its 99th percentile."""

SLOWDOWN_BESIDE_TESTS: Final = 30
"""The same while other tests use the machine's second core, as they do in the short form."""

BETWEEN: Final = 0.015
"""Seconds between a response and the next request of the honest client."""

GROWTH: Final = 32 * 2**20
"""Bytes by which the server's memory may differ between two moments of a siege that goes on."""


@dataclass(slots=True)
class HonestClient:
    """Reads lists through both protocols, one after another, and remembers every response.

    Attributes:
        delays: seconds that each response took.
        late: the most seconds by which this process itself woke up late.
        failures: responses that were not 200.
    """

    client: httpx.AsyncClient
    tokens: list[str]
    delays: list[float] = field(default_factory=list)
    late: float = 0.0
    failures: list[str] = field(default_factory=list)

    async def work(self, seconds: float) -> float:
        """Work for some seconds, and return the 99th percentile of the delays in them."""
        self.delays.clear()
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            token = self.tokens[number % len(self.tokens)]
            await self._read(token, graphql=number % 2 == 0)
            number += 1
            due = time.monotonic() + BETWEEN
            await asyncio.sleep(BETWEEN)
            self.late = max(self.late, time.monotonic() - due)
        return percentile(self.delays, 99)

    async def _read(self, token: str, graphql: bool) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        began = time.monotonic()
        if graphql:
            query = {"query": "{ tasks(first: 50) { nodes { id title } } }"}
            response = await self.client.post("/graphql", json=query, headers=headers)
        else:
            response = await self.client.get("/tasks?limit=50", headers=headers)
        self.delays.append(time.monotonic() - began)
        if response.status_code != 200 or b'"errors"' in response.content:
            self.failures.append(f"{response.status_code} {response.text[:300]}")


def percentile(values: list[float], percent: int) -> float:
    """The smallest of the values that is not exceeded by so many percent of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@dataclass(slots=True)
class Besieged:
    """A running server, and the people it knows."""

    process: psutil.Process
    honest: HonestClient
    target: Target
    database_url: str
    log: Path


@pytest.mark.slow
async def test_attacks_leave_an_honest_client_served(postgres: Postgres, tmp_path: Path) -> None:
    server = besieged(postgres, tmp_path, "siege_short", seconds=9)
    await besiege(server, calm=2, seconds=9, settled=3, slowdown=SLOWDOWN_BESIDE_TESTS)


@pytest.mark.drill
@pytest.mark.timeout(900)
async def test_ten_minutes_of_attacks_change_nothing(postgres: Postgres, tmp_path: Path) -> None:
    server = besieged(postgres, tmp_path, "siege_long", seconds=600)
    await besiege(server, calm=20, seconds=600, settled=120, slowdown=SLOWDOWN)


async def besiege(
    besieged_server: AbstractAsyncContextManager[Besieged],
    *,
    calm: float,
    seconds: float,
    settled: float,
    slowdown: float,
) -> None:
    """Measure in calm, under all attacks, and after them.

    Args:
        calm: seconds without attacks.
        seconds: of attacks.
        settled: seconds after which the server's memory has to be flat.
        slowdown: how many times slower than in calm the honest client may be served.
    """
    async with besieged_server as server:
        await server.honest.work(2)  # Connections open, caches fill.
        before = _resources(server.process)
        in_calm = await server.honest.work(calm)

        attack = asyncio.create_task(_attack(server.target))
        async with _locked(server):
            await server.honest.work(settled)
            settled_memory = server.process.memory_info().rss
            under_attack = await server.honest.work(seconds - settled - 1)
            memory = server.process.memory_info().rss
        report = await attack
        print(f"{in_calm=:.4f} {under_attack=:.4f} late={server.honest.late:.4f}", report)
        print(f"{before=} {settled_memory=} {memory=}")

        assert not server.honest.failures
        assert not report["server_errors"]
        assert all(report["steps"].values()), report["steps"]
        assert under_attack <= slowdown * in_calm + server.honest.late
        assert memory <= settled_memory + GROWTH
        await _until_resources_are(server.process, before)
        log = server.log.read_text()
        assert not has_exception(log), log[-3000:]
        assert len(log.splitlines()) < 2000 + 20 * seconds


@asynccontextmanager
async def besieged(
    postgres: Postgres, folder: Path, name: str, seconds: float
) -> AsyncIterator[Besieged]:
    """A server as in production, with the usual budgets and a Redis of its own."""
    url = await new_database(postgres, name)
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    log = folder / "log"
    shell = ("sh", "-c", 'exec "$@" 2>"$LOG"', "sh", *COMMAND)
    with embedded_valkey() as valkey:
        environment = {
            "RATE_LIMIT_ENABLED": "true",
            "REDIS_URL": valkey.url,
            "LOG": str(log),
            "LOG_LEVEL": "WARNING",
            "REQUEST_DEADLINE_SECONDS": "5",
        }
        async with served(url, *shell, **environment) as (client, process):
            tokens, target = await _people(url, client, seconds)
            yield Besieged(
                psutil.Process(process.pid), HonestClient(client, tokens), target, url, log
            )


async def _people(url: str, client: httpx.AsyncClient, seconds: float) -> tuple[list[str], Target]:
    sql = await asyncpg.connect(url)
    surface = RestSurface(client)
    try:
        names = [f"honest {number}" for number in range(HONEST_PEOPLE)]
        honest = [(await sign_in(sql, surface, each, HASH_SECRET)).token for each in names]
        spent = [(await sign_in(sql, surface, f"m{n}", HASH_SECRET)).token for n in range(3)]
        hoarder = (await sign_in(sql, surface, "hoarder", HASH_SECRET)).token
        locker = (await sign_in(sql, surface, "locker", HASH_SECRET)).token
        await sql.execute(
            "INSERT INTO tasks (user_id, title) "
            "SELECT name, 'task ' || n FROM unnest($1::text[]) name, generate_series(1, 200) n",
            names,
        )
        await sql.execute(
            "INSERT INTO tasks (user_id, title, description) "
            "SELECT 'hoarder', repeat('t', 200), repeat('\u20ac', 1000) "
            "FROM generate_series(1, 1000)"
        )
        task_id = await sql.fetchval(
            "INSERT INTO tasks (user_id, title) VALUES ('locker', 'locked') RETURNING id"
        )
    finally:
        await sql.close()
    port = client.base_url.port
    assert port is not None
    return honest, Target(port, seconds, tuple(spent), hoarder, (locker, task_id))


async def _attack(target: Target) -> dict[str, dict[str, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.siege.every_attack",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, _ = await process.communicate(json.dumps(asdict(target)).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report: dict[str, dict[str, int]] = json.loads(output)
    return report


@asynccontextmanager
async def _locked(server: Besieged) -> AsyncIterator[None]:
    """Hold the lock of the row that the attackers want to change."""
    sql = await asyncpg.connect(server.database_url)
    try:
        async with sql.transaction():
            await sql.execute("SELECT 1 FROM tasks WHERE user_id = 'locker' FOR UPDATE")
            yield
    finally:
        await sql.close()


def _resources(process: psutil.Process) -> tuple[int, int]:
    """File descriptors, and connections of clients."""
    return process.num_fds(), len(process.net_connections("tcp"))


async def _until_resources_are(process: psutil.Process, before: tuple[int, int]) -> None:
    """Wait until there are no more descriptors and connections than before, and a pool's worth."""
    spare = 40  # Connections to the database and to Redis may have been opened meanwhile.
    with suppress(TimeoutError):
        async with asyncio.timeout(90):
            while _resources(process)[1] > before[1] + spare:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.5)
    descriptors, connections = _resources(process)
    assert descriptors <= before[0] + spare
    assert connections <= before[1] + spare
