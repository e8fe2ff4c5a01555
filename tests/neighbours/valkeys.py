"""Valkey servers that the embedded one is not: with a socket, behind TLS, nodes of a cluster."""

from __future__ import annotations

import asyncio
import secrets
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NotYet
from redis.retry import Retry

from persistence.embedded import binaries, processes


@contextmanager
def valkey_with(*lines: str, password: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Valkey with these lines of configuration."""
    process = processes.spawn(
        [binaries.find_valkey(), "-"],
        stdin="".join(f"{line}\n" for line in ('save ""', f"requirepass {password}", *lines)),
        parent_death_signal=signal.SIGKILL,
    )
    try:
        yield process
    finally:
        processes.stop(process, signal.SIGKILL)


@contextmanager
def valkey_at_socket(path: Path) -> Iterator[str]:
    """Run a Valkey that listens on a Unix socket alone. Yields its URL."""
    password = secrets.token_urlsafe(12)
    with valkey_with("port 0", f"unixsocket {path}", password=password):
        client = Redis(unix_socket_path=str(path), password=password)
        _until_answering(client)
        yield f"unix://:{password}@{path}"


@contextmanager
def valkey_cluster(folder: Path, size: int = 3) -> Iterator[list[str]]:
    """Run a cluster that has all slots. Yields the URLs of its nodes."""
    password = secrets.token_urlsafe(12)
    ports = [processes.free_port() for _ in range(size)]
    nodes = []
    for port in ports:
        home = folder / str(port)
        home.mkdir()
        nodes.append(
            valkey_with(
                "bind 127.0.0.1",
                f"port {port}",
                f"cluster-port {processes.free_port()}",
                "cluster-enabled yes",
                f"dir {home}",
                f"masterauth {password}",
                password=password,
            )
        )
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        clients = [Redis(port=port, password=password) for port in ports]
        slots = range(16384)
        for number, client in enumerate(clients):
            _until_answering(client)
            client.execute_command("CLUSTER ADDSLOTS", *slots[number::size])
        yield [f"redis://:{password}@127.0.0.1:{port}" for port in ports]


def _until_answering(client: Redis) -> None:
    client.set_retry(Retry(ConstantBackoff(0.05), 200, supported_errors=(NotYet,)))
    client.ping()


@asynccontextmanager
async def behind_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A proxy that speaks TLS, in front of a server that does not. Yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.close()
