"""What drizzle-kit does to the tables of others when it pushes a schema to their database."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from tests.auth_server.client import FOLDER
from tests.conftest import new_database, run_sql
from tests.programs import require, what_is_missing

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("node")]

OURS = {"tasks", "idempotency_keys", "feeds", "twofold_alembic_version"}
BETTER_AUTHS = {"users", "sessions", "accounts", "verifications", "jwkss"}


@pytest.fixture(scope="module")
def node() -> None:
    """Node with drizzle-kit; without it these tests are skipped, but not in CI."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    """A new database of a role that drizzle-kit shares with Twofold."""
    name = f"drizzle_{secrets.token_hex(6)}"
    url = await new_database(postgres, name)
    await run_sql(
        url, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'; ALTER DATABASE {name} OWNER TO {name}"
    )
    yield make_url(url).set(username=name, password="pw").render_as_string(hide_password=False)
    await run_sql(
        url, f"REASSIGN OWNED BY {name} TO twofold; DROP OWNED BY {name}; DROP ROLE {name}"
    )


async def push(url: str, instead: str | None = None) -> str:
    """Run ``drizzle-kit push --force`` with the documented configuration. Returns its output.

    Args:
        instead: the filter in place of the documented one.
    """
    filters = 'schemaFilter: ["public"],'
    text = (FOLDER / "drizzle.config.js").read_text()
    assert filters in text
    # In this folder, because what it names is found from there.
    config = FOLDER / f"{secrets.token_hex(6)}.config.js"
    config.write_text(text if instead is None else text.replace(filters, instead))
    program = FOLDER / "node_modules" / ".bin" / "drizzle-kit"
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, "push", "--force", f"--config={config.name}"),
            cwd=FOLDER,
            env=os.environ | {"DATABASE_URL": url},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    finally:
        config.unlink()
    return output.decode()


async def tables(url: str, schema: str) -> set[str]:
    """The names of the tables in a schema."""
    sql = await asyncpg.connect(url)
    try:
        records = await sql.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    finally:
        await sql.close()
    return {row["tablename"] for row in records}


@pytest.mark.parametrize("instead", [None, ""], ids=["documented", "without a filter"])
async def test_a_schema_of_our_own_is_left_alone(url: str, instead: str | None) -> None:
    await asyncio.to_thread(upgrade, url, "twofold")

    assert "Changes applied" in await push(url, instead)
    assert "No changes detected" in await push(url, instead)

    assert await tables(url, "twofold") == OURS
    assert await tables(url, "public") == BETTER_AUTHS


async def test_in_public_our_tables_are_dropped(url: str) -> None:
    await push(url)
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, "INSERT INTO tasks (user_id, title) VALUES ('ada', 'water the plants')")

    assert "Changes applied" in await push(url)

    assert await tables(url, "public") == BETTER_AUTHS


async def test_in_public_a_filter_of_tables_makes_every_push_fail(url: str) -> None:
    await push(url)
    await asyncio.to_thread(upgrade, url)

    output = await push(
        url, 'tablesFilter: ["!tasks", "!idempotency_keys", "!feeds", "!twofold_alembic_version"],'
    )

    assert "cannot drop sequence tasks_id_seq" in output
    assert await tables(url, "public") == BETTER_AUTHS | OURS


async def test_a_schema_named_like_the_role_of_another_tool_gets_its_tables(url: str) -> None:
    role = make_url(url).username
    assert role is not None
    await asyncio.to_thread(upgrade, url, role)

    await push(url)

    assert await tables(url, role) == BETTER_AUTHS | OURS
    assert await tables(url, "public") == set()
