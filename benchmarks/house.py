"""A server to measure: the app under uvicorn in a process of its own, on embedded servers."""

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
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg
import psutil

from persistence.embedded.postgres import postgres
from persistence.migrations import upgrade

SECRET = "the secret of the benchmarks, shared with nobody"
TOKEN = "the-token-of-the-benchmarks"

_SESSIONS = """
CREATE TABLE user_sessions (
    user_id text, token_hash text PRIMARY KEY, expires_at timestamptz, revoked boolean
);
"""


@dataclass(frozen=True, slots=True)
class House:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        process: the server's, for its CPU time.
    """

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """CPU seconds that the server has used so far."""
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
def house(database_url: str, **environment: str) -> Iterator[House]:
    """The app, served by one worker as ``twofold serve`` does it."""
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
        _wait_until_ready(f"http://127.0.0.1:{port}/health/ready")
        yield House(port, psutil.Process(process.pid))


def _wait_until_ready(url: str) -> None:
    for _ in range(200):
        with suppress(URLError, ConnectionError), urlopen(url):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{url} never answered")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of one HTTP/1.1 request in the benchmark user's name."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {TOKEN}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def drive(port: int, message: bytes, times: int, connections: int = 4) -> None:
    """Send a request over and over on a few kept-alive connections; every answer must be a 2xx."""
    await asyncio.gather(
        *(_converse(port, message, times // connections) for _ in range(connections))
    )


async def _converse(port: int, message: bytes, times: int) -> None:
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
        await reader.readexactly(length)
    writer.close()


def cpu_per_request(house: House, message: bytes, times: int) -> float:
    """Microseconds of server CPU that one such request costs, the best of three rounds."""
    asyncio.run(drive(house.port, message, max(times // 5, 8)))
    rounds = []
    for _ in range(3):
        before = house.cpu()
        asyncio.run(drive(house.port, message, times))
        rounds.append((house.cpu() - before) / times * 1e6)
    return min(rounds)
