"""The scripts of the migrations, the SQL that they print, and the locks that they take."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from alembic import command
from persistence.database import Database
from persistence.migrations import config
from persistence.schema_check import find_schema_problem, revisions
from tests.conftest import ROOT
from tests.migrations.running import (
    VERSIONS,
    alembic,
    tables,
)


async def test_the_sql_can_be_had_and_run_by_hand(
    url: str, sql: asyncpg.Connection, db: Database
) -> None:
    process = alembic(url, "upgrade", "head", "--sql")
    written, noise = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, noise
    assert await tables(sql) == set()

    await sql.execute(written)

    assert "pg_advisory_xact_lock" in written
    assert await find_schema_problem(db, "pg_class") is None
    await asyncio.to_thread(command.check, config(url))


async def test_the_sql_can_be_had_without_a_database() -> None:
    process = alembic("postgresql://nobody@nowhere.invalid/nothing", "upgrade", "head", "--sql")
    written, noise = await asyncio.to_thread(process.communicate)

    assert process.returncode == 0, noise
    assert "CREATE TABLE tasks" in written


async def test_a_url_is_wanted_and_said_so(tmp_path: Path) -> None:
    process = alembic("", "-c", str(ROOT / "pyproject.toml"), "upgrade", "head", cwd=tmp_path)
    _, noise = await asyncio.to_thread(process.communicate)

    assert process.returncode != 0
    assert "DATABASE_URL: It is missing." in noise


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_every_migration_sets_a_lock_timeout_before_it_does_anything(
    path: Path, direction: str
) -> None:
    [function] = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == direction
    ]
    _docstring, first, *_ = function.body

    assert re.fullmatch(r"op\.execute\(\"SET LOCAL lock_timeout = '\d+m?s'\"\)", described(first))


def described(node: ast.stmt) -> str:
    return ast.unparse(node).replace("\\'", "'")


def test_the_template_of_new_migrations_sets_a_lock_timeout_both_ways() -> None:
    template = (ROOT / "alembic" / "script.py.mako").read_text()

    assert template.count("SET LOCAL lock_timeout = '2s'") == 2


def test_every_migration_says_which_locks_it_takes() -> None:
    assert VERSIONS
    assert [path.name for path in VERSIONS if "\nLocks: " not in path.read_text()] == []


def test_the_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(config())
    walked = {script.revision for script in scripts.walk_revisions()}

    older, newest = revisions()

    assert ({*older, newest}, newest) == (walked, scripts.get_current_head())
