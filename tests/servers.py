"""The service in a process of its own, started as for production."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

from tests.conftest import HASH_SECRET, ROOT
from tests.control import GIVE_UP

COMMAND = (sys.executable, "-m", "api.cli", "serve")


@asynccontextmanager
async def served(
    database_url: str, *command: str, **environment: str
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """A running service and a client of it. It is terminated after the block.

    Args:
        command: in place of ``twofold serve``; uvicorn itself takes the same port.
        environment: its settings, on top of those of a test.
    """
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(command or COMMAND),
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "ENVIRONMENT": "testing",
            "DATABASE_URL": database_url,
            "SESSION_HASH_SECRET": HASH_SECRET,
            "SQLALCHEMY_POOL_SIZE": "5",
            "RATE_LIMIT_ENABLED": "false",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "UVICORN_PORT": str(port),
            "LOG_LEVEL": "WARNING",
            **environment,
        },
    )
    limits = httpx.Limits(max_connections=100)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
            await _ready(client, process)
            yield client, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(GIVE_UP):
        while process.returncode is None:
            with suppress(httpx.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"The server ended with exit code {process.returncode}")


def free_port() -> int:
    """A port of 127.0.0.1 that is free now.

    It is outside the range that systems use for outgoing connections, of which one could take it
    before a server does.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
