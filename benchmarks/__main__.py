"""Measures the service beside the floor, and prints the table of ``docs/benchmarks.md``.

    python -m benchmarks [factor of the number of requests]

One worker of each, on the same PostgreSQL: 1,000 users with 200 tasks each and one with 1,000. 16
connections send the same requests to the one and to the other in alternation. The primary figure is
CPU of the server's processes for each request. Without the factor, 1, it takes about two minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from benchmarks.client import KEY, drive, encode
from benchmarks.floor import CONNECTIONS
from benchmarks.operations import CREATE, list_of
from benchmarks.service import (
    OWN_TASKS,
    Service,
    cpu_of,
    database,
    running_floor,
    running_service,
    token_of,
)
from persistence.embedded.valkey import valkey
from tests.operations import Api, Get, List, Operation
from tests.surfaces import SURFACES

USERS: Final = 1000
"""The number of users with ``OWN_TASKS`` tasks each. Ada has 1,000 tasks."""

ADAS_TASKS: Final = 1000

ROUNDS: Final = 3

SETTINGS: Final = {
    "RATE_LIMIT_READ": "1000000/minute",
    "RATE_LIMIT_WRITE": "1000000/minute",
    "RATE_LIMIT_TIMEOUT_MS": "5000",
    "SQLALCHEMY_MAX_OVERFLOW": "20",
}
"""Budgets that are counted like any other, but never spent; and the pool of production. With fewer
connections than the clients, a request also waits for one, which those of the floor never do."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table.

    Attributes:
        messages: the requests, sent in turn.
        times: how many are sent in a round.
    """

    name: str
    messages: Sequence[bytes]
    times: int


@dataclass(slots=True)
class Samples:
    """What one server's rounds of one cell took, for each request: microseconds of CPU."""

    server: list[float] = field(default_factory=list)
    postgres: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


def _own_task(user: int) -> Get:
    # Ada has the first ids. Of each other user another of their tasks.
    return Get(ADAS_TASKS + (user - 1) * OWN_TASKS + user % OWN_TASKS + 1)


def cells(users: int) -> list[Cell]:
    """The rows of the table, with requests of Ada or of so many other users."""

    def of_each(api: Api, operation_of: Callable[[int], Operation]) -> list[bytes]:
        return [
            encode(SURFACES[api].encode(operation_of(user)), token_of(user))
            for user in range(1, users + 1)
        ]

    def of_ada(api: Api, operation: Operation) -> list[bytes]:
        return [encode(SURFACES[api].encode(operation))]

    def with_keys(messages: list[bytes]) -> list[bytes]:
        header = b"\r\nidempotency-key: " + KEY + b"\r\n\r\n"
        return [each.replace(b"\r\n\r\n", header, 1) for each in messages]

    rest, graphql = Api.REST, Api.GRAPHQL
    return [
        Cell("get one", of_each(rest, _own_task), 3000),
        Cell("list 50", of_each(rest, lambda _: list_of(50)), 2000),
        Cell("list 1000", of_ada(rest, list_of(1000)), 300),
        Cell("GraphQL list 50", of_each(graphql, lambda _: list_of(50)), 2000),
        Cell("GraphQL list 1000", of_ada(graphql, list_of(1000)), 300),
        Cell("GraphQL edges 1000", of_ada(graphql, List({"limit": 1000}, detailed=True)), 150),
        Cell("create", of_each(rest, lambda _: CREATE), 2000),
        Cell("create with a key", with_keys(of_each(rest, lambda _: CREATE)), 2000),
        Cell("GraphQL create", of_each(graphql, lambda _: CREATE), 2000),
    ]


@dataclass(frozen=True, slots=True)
class Bench:
    """The running servers: the service, and one to measure it beside."""

    service: Service
    other: Service
    postgres: psutil.Process
    redis: psutil.Process

    def measure(self, cell: Cell, server: Service, times: int, samples: Samples) -> None:
        """Send requests of a cell to a server, and add what they took to the samples."""
        readings = [server.cpu(), cpu_of(self.postgres), cpu_of(self.redis)]
        seconds = asyncio.run(drive(server.port, cell.messages, times, CONNECTIONS))
        after = [server.cpu(), cpu_of(self.postgres), cpu_of(self.redis)]
        all_samples = samples.server, samples.postgres, samples.redis
        for each, before, now in zip(all_samples, readings, after, strict=True):
            each.append((now - before) / times * 1e6)
        samples.milliseconds += [each * 1e3 for each in seconds]


def run(bench: Bench, name: str, users: int, factor: float) -> None:
    """Print the table.

    Args:
        name: of the other server.
    """
    print(f"| | ours µs | {name} µs | ours ÷ {name} | PostgreSQL µs | Redis µs | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|---|")
    for cell in cells(users):
        times = max(int(cell.times * factor), 4)
        ours, others = Samples(), Samples()
        for server in bench.service, bench.other:
            # As many as in a round: the compiler of a Node server needs some thousand.
            bench.measure(cell, server, times, Samples())
        for _ in range(ROUNDS):
            bench.measure(cell, bench.service, times, ours)
            bench.measure(cell, bench.other, times, others)
        print(_row(cell.name, ours, others), flush=True)
    print()
    for each, server in ("Ours", bench.service), (name.capitalize(), bench.other):
        print(f"{each}: ready after {server.ready_after:.2f} s, ", end="")
        print(f"{server.memory() / 2**20:.0f} MiB after this load.")


def _row(name: str, ours: Samples, others: Samples) -> str:
    cost, least = statistics.median(ours.server), statistics.median(others.server)
    percentiles = statistics.quantiles(ours.milliseconds, n=100)
    figures = [
        f"{cost:.0f}",
        f"{least:.0f}",
        f"{cost / max(least, 1):.2f}",
        f"{statistics.median(ours.postgres):.0f}",
        f"{statistics.median(ours.redis):.0f}",
        f"{percentiles[49]:.1f}",
        f"{percentiles[98]:.1f}",
    ]
    return f"| {' | '.join([name, *figures])} |"


def main(factor: float) -> None:
    """Start the servers and measure them; with a factor below 1, with fewer users too."""
    users = int(USERS * min(factor, 1))
    with database(ADAS_TASKS, users) as data, valkey() as redis:
        settings = {"REDIS_URL": redis.url, **SETTINGS}
        with running_service(data.url, **settings) as service, running_floor(data.url) as floor:
            bench = Bench(service, floor, data.process, psutil.Process(redis.process.pid))
            run(bench, "floor", users, factor)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
