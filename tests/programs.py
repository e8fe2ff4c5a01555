"""The Node programs beside the tests: whether they can be run here, and running one to its end."""

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
from tests.conftest import HASH_SECRET, ROOT, new_database, run_sql
from tests.people import SESSION_TABLES, sign_in
from tests.servers import served
from tests.surfaces import RestSurface

OLDEST_NODE: Final = 20


def what_is_missing(folder: Path) -> str | None:
    """Why the programs in a folder cannot be run here, as a sentence; ``None`` when they can."""
    node, where = shutil.which("node"), folder.relative_to(ROOT)
    if node is None:
        return f"Node is not installed: version {OLDEST_NODE} or newer runs {where}"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").split(".")[0]) < OLDEST_NODE:
        return f"Node {version.strip()} is too old: {where} needs {OLDEST_NODE}"
    if _installed(folder) != _wanted(folder):
        return f"The packages of {where} are not installed: run `npm ci` there"
    return None


def _wanted(folder: Path) -> dict[str, str]:
    package = json.loads((folder / "package.json").read_text())
    wanted: dict[str, str] = package.get("dependencies", {}) | package.get("devDependencies", {})
    return wanted


def _installed(folder: Path) -> dict[str, str]:
    packages = {name: folder / "node_modules" / name / "package.json" for name in _wanted(folder)}
    return {
        name: json.loads(package.read_text())["version"]
        for name, package in packages.items()
        if package.exists()
    }


def require(missing: str | None, variable: str) -> None:
    """Skip the test when something is missing; fail where ``variable`` says that it must not be."""
    if missing and os.environ.get(variable) == "1":
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)


@dataclass(frozen=True, slots=True)
class House:
    """The running service, and somebody's session."""

    url: str
    token: str = field(repr=False)


@asynccontextmanager
async def lived_in(postgres: Postgres, name: str) -> AsyncIterator[House]:
    """The service on a database of its own, with a budget that no program exhausts.

    The demo token is the session's.
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
        yield House(str(client.base_url), token)


async def _session(url: str) -> str:
    sql = await asyncpg.connect(url)
    async with httpx.AsyncClient() as nobody:
        ada = await sign_in(sql, RestSurface(nobody), "ada", HASH_SECRET)
    await sql.close()
    return ada.token


async def run(folder: Path, script: str, house: House) -> str:
    """Run a script of a folder's ``package.json``, which must end well. Returns what it said."""
    process = await asyncio.create_subprocess_exec(
        "npm",
        "run",
        "--silent",
        script,
        cwd=folder,
        env=os.environ | {"TWOFOLD_URL": house.url, "TWOFOLD_TOKEN": house.token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        # What it started, if we are told to stop: browsers, too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = output.decode()
    if process.returncode != 0:
        pytest.fail(said, pytrace=False)
    return said
