"""Measures the service beside Fastify and Mercurius with the same checks.

    python -m benchmarks.beside_fastify [factor of the number of requests]

As ``python -m benchmarks``, with ``benchmarks/fastify`` in the place of the floor. Needs Node and
what ``npm ci`` installs there.
"""

from __future__ import annotations

import sys

import psutil

from api.rate_limit.redis_sliding_window import SCRIPT
from benchmarks.__main__ import ADAS_TASKS, SETTINGS, USERS, Bench, run
from benchmarks.service import SECRET, database, running_fastify, running_service
from persistence.embedded.valkey import valkey


def main(factor: float) -> None:
    """Start the servers and measure them; with a factor below 1, with fewer users too."""
    users = int(USERS * min(factor, 1))
    with database(ADAS_TASKS, users) as data, valkey() as redis:
        others = {"SESSION_HASH_SECRET": SECRET, "REDIS_URL": redis.url, "BUDGET_SCRIPT": SCRIPT}
        with (
            running_service(data.url, REDIS_URL=redis.url, **SETTINGS) as service,
            running_fastify(data.url, **others) as fastify,
        ):
            bench = Bench(service, fastify, data.process, psutil.Process(redis.process.pid))
            run(bench, "Fastify", users, factor)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
