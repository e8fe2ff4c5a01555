"""Shows what an operation costs against the number of tasks in the table and of the user's own.

    python -m benchmarks.scale [the most tasks in the table]

The primary figure is PostgreSQL's CPU: the service's cannot depend on the table. A get, a page of
50 in any order and a create must not grow; a search may grow with the user's own tasks. Without the
argument, a million, it takes about five minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import Final

from benchmarks.client import drive
from benchmarks.operations import CREATE, GET, list_of, message, on_task
from benchmarks.service import OWN_TASKS, Data, Service, cpu_of, database, running_service
from tests.operations import Api, List, Operation

OPERATIONS: Final[dict[str, Operation]] = {
    "get one": on_task(1)[GET],
    "page of 50": list_of(50),
    "by change": List({"limit": 50, "order": "updated_desc"}),
    "by due": List({"limit": 50, "order": "due_asc"}),
    "by priority": List({"limit": 50, "order": "priority_desc"}),
    "search without a result": List({"limit": 50, "q": "numbers nothing"}),
    "create": CREATE,
}

OWN: Final = (1_000, 10_000)
"""The numbers of Ada's own tasks, who sends the requests."""

TIMES: Final = 600

ROUNDS: Final = 3


def sizes(most: int) -> list[int]:
    """The numbers of tasks in the table: the powers of ten from a thousand on."""
    return [10**power for power in range(3, 10) if 10**power <= most]


def cost(data: Data, service: Service, operation: Operation) -> tuple[float, float]:
    """Microseconds of CPU for one request: of PostgreSQL, and of the service."""
    request = message(Api.REST, operation)
    asyncio.run(drive(service.port, [request], TIMES // 5))
    rounds = []
    for _ in range(ROUNDS):
        before = cpu_of(data.process), service.cpu()
        asyncio.run(drive(service.port, [request], TIMES))
        after = cpu_of(data.process), service.cpu()
        rounds.append([(now - then) / TIMES * 1e6 for now, then in zip(after, before, strict=True)])
    postgres, server = zip(*rounds, strict=True)
    return statistics.median(postgres), statistics.median(server)


def main(most: int) -> None:
    """Print a row for each number of tasks."""
    print(f"| in the table | Ada's own | {' | '.join(OPERATIONS)} |")
    print("|---|---|" + "---|" * len(OPERATIONS))
    for own in OWN:
        for size in sizes(most):
            if size < own:
                continue
            others = (size - own) // OWN_TASKS
            with database(own, others) as data:
                settings = {"RATE_LIMIT_ENABLED": "false"}
                with running_service(data.url, **settings) as service:
                    costs = [cost(data, service, each) for each in OPERATIONS.values()]
            cells = " | ".join(f"{postgres:.0f} + {server:.0f} µs" for postgres, server in costs)
            print(f"| {size:,} | {own:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
