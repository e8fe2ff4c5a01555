"""The client that openapi-python-client generates from the OpenAPI document passes ``mypy
--strict``, and works. What it does is in ``python_client/``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from persistence.embedded.postgres import Postgres
from tests.conftest import ROOT
from tests.programs import Address, running_service

FOLDER: Final = ROOT / "tests" / "python_client"
PROGRAM: Final = FOLDER / "program.py"


@pytest.fixture
async def service(postgres: Postgres) -> AsyncIterator[Address]:
    """The running service."""
    async with running_service(postgres, "python_client") as service:
        yield service


@pytest.fixture
async def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that imports the generated client."""
    await run(
        {}, "openapi_python_client", "generate", "--path", ROOT / "rest" / "openapi.json",
        "--output-path", tmp_path / "tasks_client", "--meta", "none",
        "--config", FOLDER / "generator.yaml", "--fail-on-warning",
    )  # fmt: skip
    return {"PYTHONPATH": str(tmp_path), "MYPYPATH": str(tmp_path)}


async def test_a_generated_python_client_passes_mypy_and_works(
    environment: dict[str, str], service: Address, tmp_path: Path
) -> None:
    typed, printed = await asyncio.gather(
        run(
            environment, "mypy", "--config-file", FOLDER / "mypy.ini",
            "--cache-dir", tmp_path / "cache", PROGRAM, tmp_path / "tasks_client",
        ),
        run(environment | {"TWOFOLD_URL": service.url, "TWOFOLD_TOKEN": service.token}, PROGRAM),
    )  # fmt: skip

    assert typed.startswith("Success")
    assert printed == "title: String should have at least 1 character\n"


async def run(environment: dict[str, str], *command: str | Path) -> str:
    """Run a program, or a module, of Python; it must succeed. Returns its output."""
    program, *arguments = command
    module = [] if isinstance(program, Path) else ["-m"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *module, program, *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()
