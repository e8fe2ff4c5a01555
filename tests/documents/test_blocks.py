"""Every block of every document is executed on one running service, or checked as fits it.

A block that is followed by one with the role ``response`` is answered as that one shows, but for
times, ids and cursors. ``make documents`` writes the responses anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
import yaml

from api.settings import setting_names
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.conftest import ROOT, new_database, run_sql
from tests.documents.blocks import Block, ShownResponse, blocks
from tests.people import SESSION_TABLES, sign_in
from tests.servers import served
from tests.surfaces import RestSurface

WRITE = os.environ.get("TWOFOLD_WRITE_DOCUMENTS") == "1"

DOCUMENTS = {
    str(path.relative_to(ROOT)): blocks(path)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
}

# Documents whose blocks are read by tests of their own.
ELSEWHERE = {
    "docs/deploy.md": "tests/deploy/test_document.py",
    "docs/errors.md": "tests/test_errors.py",
}

# What cannot run here, by document and first line, and why.
NOT_RUN = {
    ("README.md", "make run     # needs Python 3.11 or newer, make and PyPI; PostgreSQL and Valkey"
     " are included"): "installs from PyPI; tests/test_make.py and tests/cli/test_dev.py run it",
    ("README.md", "make wheel                                                          # in the"
     " checkout; writes dist/"): "tests/test_wheel.py builds and installs it",
    ("README.md", "export DATABASE_URL='postgresql://user:password@ep-cool-name-123456.eu-central-1"
     ".aws.neon.tech/db?sslmode=require'"): "tests/test_wheel.py runs these commands",
    ("README.md", "python3 -m venv .twofold"):
        "tests/test_wheel.py installs it, and runs `twofold dev`",
    ("docs/architecture.md", "api.cli"): "a list of the layers in pyproject.toml",
    ("docs/auth.md", 'import { kyselyAdapter } from "@better-auth/kysely-adapter";'):
        "tests/auth_server/hashed.js does the same with its own database",
    ("docs/auth.md", "betterAuth({"): "a part; tests/auth_server/redis_only.js has the whole",
    ("docs/auth.md", "DATABASE_SCHEMA=twofold twofold migrate        # a new installation"):
        "tests/neighbours runs these commands",
    ("docs/auth.md", "twofold reassign OLD_USER_ID NEW_USER_ID"):
        "tests/better_auth runs it",
    ("docs/auth.md", "twofold check     # shows every error in the settings"):
        "tests/test_wheel.py runs these commands",
    ("docs/auth.md", "token=$(curl -s https://auth.example.com/api/auth/sign-in/email \\"):
        "tests/better_auth signs in and out at a real auth server",
    ("docs/live.md", "retry: 2614"): "a stream; tests/live/test_event_streams.py reads it",
    ("docs/live.md", "subscription ($since: String) {"):
        "a stream; tests/test_graphql_sse.py reads it",
    ("docs/retries.md", 'const response = await write("https://api.example.com/tasks", {'):
        "a call of the function above it, which tests/browser runs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Service:
    """A running service and its database."""

    client: httpx.AsyncClient
    database_url: str


@pytest.fixture(scope="module")
async def service(postgres: Postgres) -> AsyncIterator[Service]:
    """One service for all documents, with the default budgets."""
    url = await new_database(postgres, "documents")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    settings = {"RATE_LIMIT_ENABLED": "true", "GRAPHQL_INTROSPECTION": "true"}
    async with served(url, **settings) as (client, _):
        yield Service(client, url)


class Reader:
    """Somebody who does what one document says, with tasks and a budget of their own."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._user = f"reader-{secrets.token_hex(8)}"
        self._token = ""

    async def begin(self) -> None:
        """Sign in. The first task has the id 1."""
        sql = await asyncpg.connect(self._service.database_url)
        await sql.execute("TRUNCATE tasks RESTART IDENTITY; TRUNCATE idempotency_keys")
        person = await sign_in(sql, RestSurface(self._service.client), self._user)
        self._token = person.token
        await sql.close()

    async def run(self, block: Block, variables: str = "") -> str:
        """Execute a block, and return its output. The user's id is replaced by Ada's."""
        run = {
            "sh": self._shell,
            "python": self._python,
            "http": self._request,
            "sql": self._sql,
        }.get(block.language)
        output = await (run(block.text) if run else self._graphql(block.text, variables))
        return output.replace(self._user, "ada")

    async def _shell(self, text: str) -> str:
        return await self._program("bash", "-eu", "-c", text)

    async def _python(self, text: str) -> str:
        return await self._program(sys.executable, "-c", text)

    async def _program(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._folder,
            env={
                "PATH": os.environ["PATH"],
                "TWOFOLD_URL": str(self._service.client.base_url).rstrip("/"),
                "TWOFOLD_TOKEN": self._token,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    async def _request(self, text: str) -> str:
        head, _, body = text.strip().partition("\n\n")
        line, *lines = head.split("\n")
        method, path = line.split(" ")
        headers = dict(line.split(": ", 1) for line in lines) | self._authorization
        response = await self._service.client.request(method, path, headers=headers, content=body)
        assert response.is_success, response.text
        return response.text

    async def _graphql(self, text: str, variables: str) -> str:
        headers = self._authorization | {"Accept": "application/graphql-response+json"}
        request = {"query": text, "variables": json.loads(variables or "{}")}
        return (await self._service.client.post("/graphql", json=request, headers=headers)).text

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _sql(self, text: str) -> str:
        connection = await asyncpg.connect(self._service.database_url)
        transaction = connection.transaction()
        await transaction.start()
        # better-auth's table, which databases of the layout `hashed` have not.
        await connection.execute('CREATE TABLE session ("expiresAt" timestamp)')
        await connection.execute(text)
        await transaction.rollback()
        await connection.close()
        return ""


EXECUTED = {"sh", "python", "http", "graphql", "sql"}


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if DOCUMENTS[name]])
async def test_every_block_does_what_the_document_says(
    name: str, service: Service, tmp_path: Path
) -> None:
    if name in ELSEWHERE:
        assert Path(name).name in (ROOT / ELSEWHERE[name]).read_text(encoding="utf-8")
        return
    reader = Reader(service, tmp_path)
    await reader.begin()
    blocks_of_document = DOCUMENTS[name]
    new: list[tuple[tuple[int, int], str]] = []
    for place, block in enumerate(blocks_of_document):
        if (name, block.first_line) in NOT_RUN or is_checked(name, block):
            continue
        assert block.language in EXECUTED, f"{name}: how to check {block.first_line!r}?"
        [variables, shown] = following(blocks_of_document[place + 1 :])
        output = await reader.run(block, variables.text if variables else "")
        if shown is None:
            assert '{"errors":' not in output, output
            continue
        live, expected = ShownResponse.parse(output), ShownResponse.parse(shown.text)
        live = live.like(expected)
        new.append((shown.span, live.write()))
        assert WRITE or live.stable() == expected.stable(), f"{block.text}\ngets\n{live.write()}"
    if WRITE:
        write(ROOT / name, new)


def following(rest: list[Block]) -> tuple[Block | None, Block | None]:
    """The variables and the response that belong to the block before."""
    parts: dict[str, Block] = {}
    for block in rest:
        if not block.role:
            break
        parts[block.role] = block
    return parts.get("variables"), parts.get("response")


def write(document: Path, new: list[tuple[tuple[int, int], str]]) -> None:
    text = document.read_text(encoding="utf-8")
    for (start, end), response in reversed(new):
        text = text[:start] + response + text[end:]
    document.write_text(text, encoding="utf-8")


def is_checked(document: str, block: Block) -> bool:
    """Check a block that is nothing to execute. Returns whether it is of such a kind."""
    if block.role:
        return True  # with the block before it
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml":
            assert yaml.safe_load(block.text)
        case "js" | "ts" | "tsx":
            assert is_tested_code(document, block.text), block.text
        case "sh" if SETTINGS.fullmatch(block.text):
            assert set(SETTING.findall(block.text)) <= setting_names() | {"BETTER_AUTH_SECRET"}
        case _:
            return False
    return True


SETTING = re.compile(r"^([A-Z_]+)=", re.MULTILINE)
SETTINGS = re.compile(r"((?:[A-Z_]+=.*|#.*)?\n)+")


RECIPES = {"docs/clients.md", "docs/live.md"}


def is_tested_code(document: str, text: str) -> bool:
    """Whether tests with Node run this: as a file of theirs, or as a recipe with a name."""
    if document in RECIPES and re.match(r"// [\w.]+\.tsx?\n|# \w+\.py\n", text):
        return True  # tests/node/recipes/extract.mjs writes all of these into files.
    return any(text.strip() in file for file in node_programs())


def node_programs() -> list[str]:
    """The sources of the Node programs of the tests."""
    folders = ("auth_server", "browser", "node")
    files = (file for folder in folders for file in (ROOT / "tests" / folder).glob("*.?s"))
    return [file.read_text(encoding="utf-8") for file in files]


def test_what_is_not_run_is_in_the_documents() -> None:
    present = {(name, block.first_line) for name in DOCUMENTS for block in DOCUMENTS[name]}

    assert set(NOT_RUN) - present == set()
    assert len(NOT_RUN) <= 16
