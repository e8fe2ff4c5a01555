"""Processes of instances: which there are, and waiting for what they do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from tests.control import GIVE_UP

UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app")
WORKERS = ("--workers", "2")


@asynccontextmanager
async def new_connections(
    client: httpx.AsyncClient, token: str = "none"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that opens a connection for every request."""
    async with httpx.AsyncClient(
        base_url=client.base_url,
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as another:
        yield another


def processes_of(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """A process and its workers."""
    parent = psutil.Process(process.pid)
    return [parent, *filter(_is_worker, parent.children())]


def _is_worker(process: psutil.Process) -> bool:
    try:
        # Not the one with which Python's multiprocessing counts semaphores.
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # It has just ended.
        return False


async def replaced(process: asyncio.subprocess.Process, before: set[psutil.Process]) -> None:
    """Wait until there are two new workers and none of those before."""
    assert len(before) == 2
    async with asyncio.timeout(GIVE_UP):
        while True:
            workers = set(processes_of(process)[1:])
            if len(workers) == 2 and workers.isdisjoint(before):
                return
            await asyncio.sleep(0.1)


async def until_logged(log: Path, text: str, times: int = 1) -> None:
    """Wait until a log has a text so often."""
    async with asyncio.timeout(GIVE_UP):
        while _count(log, text) < times:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


def _count(log: Path, text: str) -> int:
    return log.read_text().count(text)
