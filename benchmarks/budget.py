"""Compares the server CPU of a request with and without budgets.

python -m benchmarks.budget [factor of the number of requests]
"""

from __future__ import annotations

import sys
from typing import Final

from benchmarks.client import cpu_per_request
from benchmarks.operations import GET, message, on_task
from benchmarks.service import database, running_service
from persistence.embedded.valkey import valkey
from tests.operations import Api

REQUESTS: Final = 1500


def main(factor: float) -> None:
    """Print microseconds of server CPU for each request, and each as a multiple of the first."""
    request = message(Api.REST, on_task(1)[GET])
    with database(1) as data, valkey() as redis:
        settings = {
            "off": {"RATE_LIMIT_ENABLED": "false"},
            "in process": {},
            "on Redis": {"REDIS_URL": redis.url, "RATE_LIMIT_TIMEOUT_MS": "5000"},
        }
        first = 0.0
        for name, environment in settings.items():
            limit = {"RATE_LIMIT_READ": "1000000/minute"}
            with running_service(data.url, **limit, **environment) as service:
                cost = cpu_per_request(service, request, max(int(REQUESTS * factor), 8))
            first = first or cost
            print(f"{name:>12}  {cost:6.0f} µs  {cost / first:.2f}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
