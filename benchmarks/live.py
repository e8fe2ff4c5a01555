"""Measures streams: how late changes arrive, what idle streams cost, and what a write costs more.

    python -m benchmarks.live [factor of streams, writes and seconds]

One worker; the clients, PostgreSQL and Valkey run on the same machine. Half of the streams are
server-sent events, half are WebSockets; each person has one of each. Without the factor, 1, it
takes about three minutes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
import psutil

from benchmarks.__main__ import SETTINGS
from benchmarks.client import drive, encode
from benchmarks.operations import CREATE
from benchmarks.service import Data, Service, cpu_of, database, running_service, token_of
from persistence.embedded.valkey import valkey
from tests.followers import PROTOCOLS, Follower
from tests.operations import Api
from tests.surfaces import SURFACES

STREAMS: Final = 1000

WRITES_A_SECOND: Final = 50

SECONDS: Final = 60.0

CREATES: Final = 1500
"""Creates of a round, with or without the trigger."""

ROUNDS: Final = 3


@dataclass(slots=True)
class Readers:
    """Clients with an open stream each.

    Attributes:
        milliseconds: from the begin of a write's transaction until a client had the change.
    """

    followers: list[Follower] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def open(self, port: int, number: int, protocols: Sequence[str], first: int = 1) -> None:
        """Open so many streams, of as many people as have one of each protocol."""
        for index in range(number):
            person = first + index // len(protocols)
            protocol = protocols[index % len(protocols)]
            follower = Follower(protocol, token_of(person), [port], on_change=self._arrived)
            self.followers.append(follower)
            self._tasks.append(asyncio.create_task(follower.run()))
            if index % 20 == 19:
                await self._until_open()
        await self._until_open()

    async def close(self) -> None:
        """Close all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        faults = [fault for each in self.followers for fault in each.faults]
        attempts = sum(each.attempts for each in self.followers)
        if faults or attempts != len(self.followers):
            raise RuntimeError(f"{attempts} attempts for {len(self.followers)} streams: {faults}")

    async def _until_open(self) -> None:
        async with asyncio.timeout(60):
            while not all(each.events for each in self.followers):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def _arrived(self, task: dict[str, Any]) -> None:
        began = datetime.fromisoformat(task["updated_at"]).timestamp()
        self.milliseconds.append((time.time() - began) * 1000)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPU seconds of the service, of PostgreSQL and of this process, the clients."""

    service: float
    postgres: float
    clients: float

    @classmethod
    def now(cls, service: Service, data: Data) -> Cpu:
        """What they have used so far."""
        return cls(service.cpu(), cpu_of(data.process), time.process_time())

    def percent(self, since: Cpu, seconds: float) -> str:
        """What they used in so many seconds, as cells of a table."""
        pairs = zip(_members(self), _members(since), strict=True)
        return " | ".join(f"{(now - before) / seconds:.0%}" for now, before in pairs)


def _members(cpu: Cpu) -> tuple[float, float, float]:
    return cpu.service, cpu.postgres, cpu.clients


async def _idle(data: Data, redis: str, protocol: str, number: int, seconds: float) -> None:
    """Print what so many idle streams of a protocol cost."""
    with running_service(data.url, REDIS_URL=redis, **SETTINGS) as service:
        # What the first streams cost once is no cost of each.
        warm = Readers()
        await warm.open(service.port, 20, [protocol], first=number + 1)
        await warm.close()
        await asyncio.sleep(1)
        before = service.memory()
        readers = Readers()
        await readers.open(service.port, number, [protocol])
        await asyncio.sleep(2)
        memory = service.memory() - before
        cpu = Cpu.now(service, data)
        await asyncio.sleep(seconds)
        used = Cpu.now(service, data).percent(cpu, seconds)
        await readers.close()
    print(f"| {protocol} | {number} | {memory / number / 1024:.1f} | {used} |")


async def _load(data: Data, redis: str, number: int, rate: float, seconds: float) -> None:
    """Print how late changes arrive while people write."""
    with running_service(data.url, REDIS_URL=redis, **SETTINGS) as service:
        readers = Readers()
        await readers.open(service.port, number, list(PROTOCOLS))
        cpu, began = Cpu.now(service, data), time.monotonic()
        people = max(number // len(PROTOCOLS), 1)
        writes = max(int(rate * seconds), 1)
        async with asyncio.TaskGroup() as group:
            for index in range(writes):
                await asyncio.sleep(began + index / rate - time.monotonic())
                message = encode(
                    SURFACES[(Api.REST, Api.GRAPHQL)[index % 2]].encode(CREATE),
                    token_of(1 + index * 7 % people),
                )
                group.create_task(drive(service.port, [message], 1, 1))
        took = time.monotonic() - began
        await asyncio.sleep(2)
        used = Cpu.now(service, data).percent(cpu, took)
        await readers.close()
    late = sorted(readers.milliseconds)
    if len(late) != writes * len(PROTOCOLS):
        raise RuntimeError(f"{len(late)} changes arrived of {writes} to {len(PROTOCOLS)} streams")
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    print(
        f"| {number} | {writes / took:.0f} | {len(late)} | {p50:.1f} | {p99:.1f} | {late[-1]:.0f}"
        f" | {used} |"
    )


async def _cost_of_a_write(data: Data, redis: str, creates: int) -> None:
    """Print the CPU of a create with and without the trigger, in alternation."""
    messages = [encode(SURFACES[Api.REST].encode(CREATE), token_of(n)) for n in range(1, 17)]
    sql = await asyncpg.connect(data.url)
    figures: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    await _insert(sql, 10)
    statements: dict[bool, list[float]] = {True: [], False: []}
    with running_service(data.url, REDIS_URL=redis, **SETTINGS) as service:
        await drive(service.port, messages, max(creates // 5, 16))
        for _ in range(ROUNDS):
            for is_numbered in (True, False):
                await sql.execute(_ENABLE if is_numbered else _DISABLE)
                await drive(service.port, messages, 16)
                cpu = Cpu.now(service, data)
                await drive(service.port, messages, creates)
                now = Cpu.now(service, data)
                figures[is_numbered].append(
                    (now.service - cpu.service, now.postgres - cpu.postgres)
                )
                statements[is_numbered].append(await _insert(sql, creates))
    await sql.execute(_ENABLE)
    await sql.close()
    for is_numbered, name in ((False, "without"), (True, "with")):
        service_cpu, postgres_cpu = (
            min(each[index] for each in figures[is_numbered]) / creates * 1e6 for index in (0, 1)
        )
        print(
            f"| {name} | {service_cpu:.0f} | {postgres_cpu:.0f}"
            f" | {min(statements[is_numbered]) / creates * 1e6:.0f} |"
        )


_ENABLE: Final = "ALTER TABLE tasks ENABLE TRIGGER zz_twofold_feed"
_DISABLE: Final = "ALTER TABLE tasks DISABLE TRIGGER zz_twofold_feed"


async def _insert(sql: asyncpg.Connection, number: int) -> float:
    """The CPU seconds of PostgreSQL's process for so many plain statements."""
    backend = psutil.Process(await sql.fetchval("SELECT pg_backend_pid()"))
    statement = await sql.prepare("INSERT INTO tasks (user_id, title) VALUES ('user 1', 'by hand')")
    before = backend.cpu_times()
    for _ in range(number):
        await statement.fetch()
    now = backend.cpu_times()
    return float(now.user + now.system - before.user - before.system)


def _begin_table(title: str, *names: str) -> None:
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")


def main(factor: float) -> None:
    """Print the tables."""
    streams, seconds = max(int(STREAMS * factor), 4), SECONDS * factor
    cpu = ("service CPU", "PostgreSQL CPU", "clients CPU")
    with database(1, max(streams, 16) + 20) as data, valkey() as redis:
        _begin_table("Idle streams:", "", "streams", "KiB each", *cpu)
        for protocol in PROTOCOLS:
            asyncio.run(_idle(data, redis.url, protocol, streams, seconds / 2))
        late = ("p50 ms", "p99 ms", "longest ms")
        _begin_table("Changes:", "streams", "writes a second", "changes sent", *late, *cpu)
        rate = WRITES_A_SECOND * min(factor, 1)
        asyncio.run(_load(data, redis.url, streams, rate, seconds))
        costs = ("service µs", "PostgreSQL µs", "the statement alone µs")
        _begin_table("A create, with and without the trigger:", "", *costs)
        asyncio.run(_cost_of_a_write(data, redis.url, max(int(CREATES * factor), 16)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
