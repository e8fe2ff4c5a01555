"""The servers to measure, each in a process of its own, on embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg
import psutil

from persistence.embedded.postgres import postgres
from persistence.embedded.processes import free_port
from persistence.migrations import upgrade

SECRET: Final = "the secret of the benchmarks, of more than 32 characters"

TOKEN: Final = "the-token-of-the-benchmarks"
"""Ada's token: the user of all benchmarks that need one user."""

OWN_TASKS: Final = 200
"""The number of tasks of each user but Ada."""

FASTIFY: Final = Path(__file__).with_name("fastify")
"""The folder of the service to compare with, and of its packages."""

PYTHON: Final = os.environ.get("TWOFOLD_BENCH_PYTHON", sys.executable)
"""Whose Python runs the service and the floor. ``make bench`` has one with a server's packages."""

_SESSIONS: Final = """
CREATE TABLE user_sessions (
    user_id text, token_hash text PRIMARY KEY, expires_at timestamptz, revoked boolean
);
"""


def cpu_of(process: psutil.Process) -> float:
    """The CPU seconds that a process and its children, ended ones included, have used so far."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        # It has ended since its parent listed it, and counts among the parent's from now on.
        return 0.0
    ended = times.children_user + times.children_system
    return float(times.user + times.system + ended) + sum(map(cpu_of, process.children()))


@dataclass(frozen=True, slots=True)
class Service:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        process: the server process.
        ready_after: the seconds from its start until it was ready.
    """

    port: int
    process: psutil.Process
    ready_after: float

    def cpu(self) -> float:
        """The CPU seconds that the process and its children have used so far."""
        return cpu_of(self.process)

    def memory(self) -> int:
        """The bytes that the process and its children have in memory."""
        return sum(each.memory_info().rss for each in self._tree())

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


class Data(NamedTuple):
    """A filled database: its URL, and the process of its server."""

    url: str
    process: psutil.Process


@contextmanager
def database(tasks: int = 1000, others: int = 0) -> Iterator[Data]:
    """A migrated PostgreSQL with Ada, her session and so many tasks.

    Args:
        others: the number of further users with a session and ``OWN_TASKS`` tasks each.
    """
    with postgres(durable=False) as server:
        url = server.url("postgres")
        upgrade(url)
        asyncio.run(_fill(url, tasks, others))
        yield Data(url, psutil.Process(server.process.pid))


def token_of(user: int) -> str:
    """The token of a user: 0 is Ada, 1 is the first of the others."""
    return f"the-token-of-user-{user}" if user else TOKEN


async def _fill(url: str, tasks: int, others: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(_SESSIONS)
    digests = [
        hmac.new(SECRET.encode(), token_of(user).encode(), hashlib.sha256).hexdigest()
        for user in range(others + 1)
    ]
    await connection.execute(
        "INSERT INTO user_sessions SELECT 'user ' || n - 1, digest, now() + interval '1 day', false"
        " FROM unnest($1::text[]) WITH ORDINALITY AS each (digest, n)",
        digests,
    )
    # Ada's tasks have the first ids, then each user's follow one another.
    for users, number in ("0, 0", tasks), (f"1, {others}", OWN_TASKS):
        await connection.execute(
            "INSERT INTO tasks (user_id, title, description, created_at, updated_at, priority,"  # noqa: S608
            " due_day, due_at, search_text, search_version) "
            "SELECT 'user ' || u, 'Task number ' || n, 'Something to do about number ' || n, "
            "now() - n * interval '1.000007 s', now() - n * interval '1.000003 s', n % 4, "
            "CASE n % 3 WHEN 1 THEN '2025-12-10'::date + n % 1000 END, "
            "CASE n % 3 WHEN 2 THEN now() + n % 1000 * interval '1 h' END, "
            "'task number ' || n || chr(10) || 'something to do about number ' || n, 1 "
            f"FROM generate_series({users}) AS u, generate_series(1, $1::int) AS n ORDER BY u, n",
            number,
        )
    await connection.execute("VACUUM ANALYZE tasks")
    await connection.execute("ANALYZE user_sessions")
    await connection.close()


@contextmanager
def running_service(database_url: str, **environment: str) -> Iterator[Service]:
    """The service with one worker, on a free port. ``environment`` has further settings."""
    with logging_service(database_url, None, environment) as service:
        yield service


@contextmanager
def logging_service(
    database_url: str, log: IO[bytes] | None, environment: dict[str, str]
) -> Iterator[Service]:
    """The same, with its standard error going to ``log``."""
    port = free_port()
    command = [PYTHON, "-m", "api.cli", "serve", "--port", str(port)]
    settings = {
        "ENVIRONMENT": "testing",
        "SQLALCHEMY_POOL_SIZE": "10",
        "LOG_LEVEL": "WARNING",
        **environment,
    }
    with _running(command, port, database_url, settings, log) as service:
        yield service


@contextmanager
def running_floor(database_url: str) -> Iterator[Service]:
    """The floor under the uvicorn that it shares with the service, on a free port."""
    port = free_port()
    command = [
        PYTHON,
        "-m",
        "uvicorn",
        "benchmarks.floor:Floor",
        "--factory",
        "--port",
        str(port),
        "--loop",
        "uvloop",
    ]
    command += ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
    with _running(command, port, database_url, {}) as service:
        yield service


@contextmanager
def running_fastify(database_url: str, **environment: str) -> Iterator[Service]:
    """The service in ``benchmarks/fastify``, on a free port."""
    port = free_port()
    command = ["node", str(FASTIFY / "server.mjs")]
    settings = {"NODE_ENV": "production", "PORT": str(port), **environment}
    with _running(command, port, database_url, settings) as service:
        yield service


@contextmanager
def _running(
    command: list[str],
    port: int,
    database_url: str,
    settings: dict[str, str],
    log: IO[bytes] | None = None,
) -> Iterator[Service]:
    with ExitStack() as stack:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stderr=log,
            env={
                **os.environ,
                "DATABASE_URL": database_url,
                "SESSION_HASH_SECRET": SECRET,
                **settings,
            },
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
        yield Service(port, psutil.Process(process.pid), time.monotonic() - began)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        with suppress(URLError, ConnectionError), urlopen(url):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the service ended with exit code {process.returncode}")
