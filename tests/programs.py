"""The Node programs of the tests: whether they can run here, and how to run one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import pytest

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import ROOT, new_database, run_sql
from tests.people import SESSION_TABLES, sign_in
from tests.servers import served
from tests.surfaces import RestSurface

OLDEST_NODE: Final = 20


def what_is_missing(folder: Path) -> str | None:
    """Why the programs in a folder cannot run here, as a sentence; ``None`` if they can."""
    node, place = shutil.which("node"), folder.relative_to(ROOT)
    if node is None:
        return f"Node is not installed: version {OLDEST_NODE} or newer runs {place}"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").split(".")[0]) < OLDEST_NODE:
        return f"Node {version.strip()} is too old: {place} needs {OLDEST_NODE}"
    if _installed(folder) != _required(folder):
        return f"The packages of {place} are not installed: run `npm ci` there"
    return None


def _required(folder: Path) -> dict[str, str]:
    package = json.loads((folder / "package.json").read_text())
    required: dict[str, str] = package.get("dependencies", {}) | package.get("devDependencies", {})
    return required


def _installed(folder: Path) -> dict[str, str]:
    packages = {name: folder / "node_modules" / name / "package.json" for name in _required(folder)}
    return {
        name: json.loads(package.read_text())["version"]
        for name, package in packages.items()
        if package.exists()
    }


def require(missing: str | None, variable: str) -> None:
    """Skip the test if something is missing, or fail it if the environment has ``variable=1``."""
    if missing and os.environ.get(variable) == "1":
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of a running service, and a user's token."""

    url: str
    token: str = field(repr=False)


@asynccontextmanager
async def running_service(postgres: Postgres, name: str) -> AsyncIterator[Address]:
    """The service on a new database, with a budget that no program exhausts.

    The demo token is the user's.
    """
    url = await new_database(postgres, name)
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    token = await _session(url)
    settings = {
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_READ": "100000/minute",
        "RATE_LIMIT_WRITE": "100000/minute",
        "DEMO_TOKEN": token,
    }
    async with served(url, **settings) as (client, _):
        yield Address(str(client.base_url), token)


async def _session(url: str) -> str:
    sql = await asyncpg.connect(url)
    async with httpx.AsyncClient() as client:
        ada = await sign_in(sql, RestSurface(client), "ada")
    await sql.close()
    return ada.token


async def run(folder: Path, script: str, service: Address | None = None) -> str:
    """Run a script of a folder's ``package.json``, which must succeed. Returns its output.

    Args:
        service: the service that the script talks to, if it does.
    """
    address = {"TWOFOLD_URL": service.url, "TWOFOLD_TOKEN": service.token} if service else {}
    process = await asyncio.create_subprocess_exec(
        "npm",
        "run",
        "--silent",
        script,
        cwd=folder,
        env=os.environ | address,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        # The programs that it started as well, such as browsers.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    text = output.decode()
    if process.returncode != 0:
        pytest.fail(text, pytrace=False)
    return text
