"""Compares the server CPU that REST and GraphQL take for the same operations.

    python -m benchmarks.protocols [factor of the number of requests]

Without the factor, 1, it takes about a minute.
"""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.client import cpu_per_request
from benchmarks.operations import CHANGE, CREATE, GET, list_of, message, on_task
from benchmarks.service import database, running_service
from tests.operations import Api, Operation

OPERATIONS: Final[dict[str, tuple[Operation, int]]] = {
    "get": (on_task(1)[GET], 1000),
    "list of 1": (list_of(1), 1000),
    "list of 100": (list_of(100), 600),
    "list of 1000": (list_of(1000), 150),
    "create": (CREATE, 600),
    "change": (on_task(1)[CHANGE], 600),
}
"""Each operation, and how often it is measured."""


def main(factor: float) -> None:
    """Print microseconds of server CPU for each request in both protocols, and their ratio."""
    print(f"{'':>14}  {'REST':>8}  {'GraphQL':>8}  ratio")
    with database() as data, running_service(data.url, RATE_LIMIT_ENABLED="false") as service:
        for name, (operation, times) in OPERATIONS.items():
            rest, graphql = (
                cpu_per_request(service, message(api, operation), max(int(times * factor), 8))
                for api in (Api.REST, Api.GRAPHQL)
            )
            print(f"{name:>14}  {rest:5.0f} µs  {graphql:5.0f} µs  {graphql / rest:.2f}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
