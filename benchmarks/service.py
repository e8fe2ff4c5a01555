"""The service to measure: ``twofold serve`` in a process of its own, on embedded servers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg
import psutil

from persistence.embedded.postgres import postgres
from persistence.migrations import upgrade
from tests.surfaces import Request, authorization

SECRET: Final = "the secret of the benchmarks, of more than 32 characters"
TOKEN: Final = "the-token-of-the-benchmarks"

_SESSIONS: Final = """
CREATE TABLE user_sessions (
    user_id text, token_hash text PRIMARY KEY, expires_at timestamptz, revoked boolean
);
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        port: on 127.0.0.1.
        process: the server process, for its CPU time.
    """

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """The CPU seconds that the process has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def database(tasks: int = 1000) -> Iterator[str]:
    """A migrated PostgreSQL with one user, one session and a number of tasks. Yields its URL."""
    with postgres(durable=False) as server:
        url = server.url("postgres")
        upgrade(url)
        asyncio.run(_fill(url, tasks))
        yield url


async def _fill(url: str, tasks: int) -> None:
    connection = await asyncpg.connect(url)
    digest = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    await connection.execute(_SESSIONS)
    await connection.execute(
        "INSERT INTO user_sessions VALUES ('ada', $1, now() + interval '1 day', false)", digest
    )
    await connection.execute(
        "INSERT INTO tasks (user_id, title, description, created_at, updated_at) "
        "SELECT 'ada', 'Task number ' || n, 'Something to do about number ' || n, "
        "now() - n * interval '1.000007 s', now() - n * interval '1.000003 s' "
        "FROM generate_series(1, $1::int) AS n",
        tasks,
    )
    await connection.execute("ANALYZE tasks")
    await connection.close()


@contextmanager
def running_service(database_url: str, **environment: str) -> Iterator[Service]:
    """The service with one worker, on a free port. ``environment`` has further settings."""
    with ExitStack() as stack:
        port = _free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve", "--port", str(port)],
            env={
                **os.environ,
                "ENVIRONMENT": "testing",
                "DATABASE_URL": database_url,
                "SESSION_HASH_SECRET": SECRET,
                "SQLALCHEMY_POOL_SIZE": "10",
                "LOG_LEVEL": "WARNING",
                **environment,
            },
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready")
        yield Service(port, psutil.Process(process.pid))


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        with suppress(URLError, ConnectionError), urlopen(url):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the service ended with exit code {process.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def encode(request: Request) -> bytes:
    """The bytes of a request over HTTP/1.1, as the benchmark's user."""
    headers = {"host": "localhost", **authorization(TOKEN), **request.headers}
    if request.body:
        headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (request.body or b"")


async def drive(port: int, message: bytes, times: int, connections: int = 4) -> None:
    """Send a request so many times on a few connections.

    Raises:
        RuntimeError: an answer is not a 2xx, or has GraphQL errors.
    """
    await asyncio.gather(*(_send(port, message, times // connections) for _ in range(connections)))


async def _send(port: int, message: bytes, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(head.decode())
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        if body.startswith(b'{"errors"'):
            raise RuntimeError(body.decode())
    writer.close()


def cpu_per_request(service: Service, message: bytes, times: int) -> float:
    """Microseconds of server CPU for one request: the best of three rounds of ``times`` each."""
    asyncio.run(drive(service.port, message, max(times // 5, 8)))
    rounds = []
    for _ in range(3):
        before = service.cpu()
        asyncio.run(drive(service.port, message, times))
        rounds.append((service.cpu() - before) / times * 1e6)
    return min(rounds)
