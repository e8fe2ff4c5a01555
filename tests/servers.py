"""The service in a process of its own, started as for production."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from persistence.embedded.processes import free_port
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
        environment: its settings, on top of those of a test; ``PORT`` may name a free port.
    """
    port = int(environment.pop("PORT", 0)) or free_port()
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


async def until_listening(port: int) -> None:
    """Wait until something listens on this port of 127.0.0.1."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def require_program(name: str, package: str) -> str:
    """The path of a program. Without it the test is skipped, or fails if the program is required.

    Args:
        name: of the program. ``TWOFOLD_REQUIRE_<NAME>=1`` requires it.
        package: Debian's package of it.
    """
    # Debian puts servers where only root looks for programs.
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if path:
        return path
    missing = f"{name} is not installed (on Debian and Ubuntu: apt install {package})"
    required = os.environ.get(f"TWOFOLD_REQUIRE_{name.upper()}") == "1"
    pytest.fail(missing) if required else pytest.skip(missing)
