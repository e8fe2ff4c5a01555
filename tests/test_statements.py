"""What a statement says of itself: its types are its own, whatever the tables' columns become.

Behind PgBouncer they are asked for once and kept (``persistence.connection``), so this must hold.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import pytest

from persistence import migrations, task_lists, task_sql
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.pool import Pool, PoolSettings
from persistence.sessions.layouts import (
    SessionStore,
    find_session_lookup,
)
from persistence.sql import Statement
from tests.conftest import new_database, run_sql
from tests.people import SESSION_TABLES

SESSION: Final = 'CREATE TABLE session (token {}, "userId" int, "expiresAt" timestamp)'

CHANGES: Final = """
ALTER TABLE tasks ALTER id TYPE integer, ALTER user_id TYPE varchar(50), ALTER title TYPE text,
    ALTER description TYPE varchar(1500), ALTER version TYPE bigint,
    ALTER created_at TYPE timestamp, ALTER updated_at TYPE timestamp;
ALTER TABLE idempotency_keys ALTER user_id TYPE varchar(50), ALTER key TYPE text,
    ALTER fingerprint TYPE varchar(64), ALTER outcome TYPE jsonb;
ALTER TABLE user_sessions ALTER user_id TYPE varchar(50), ALTER token_hash TYPE varchar(64),
    ALTER expires_at TYPE timestamp;
ALTER TABLE session ALTER "userId" TYPE text, ALTER token TYPE text,
    ALTER "expiresAt" TYPE timestamptz;
ALTER TABLE twofold_alembic_version ALTER version_num TYPE char(32);
"""


def statements_of(*modules: Any) -> Iterator[Statement]:
    """Every statement that stands in a module, or in a table there."""
    for module in modules:
        for value in vars(module).values():
            several = value.values() if isinstance(value, dict) else [value]
            yield from (each for each in several if isinstance(each, Statement))


def statements_of_lists() -> Iterator[Statement]:
    """Every statement that lists or counts tasks."""
    yield from map(task_lists.list_statement, task_lists.SHAPES)
    yield from map(task_lists.count_statement, task_lists.Kind)


def test_the_driver_keeps_more_statements_than_lists_have_shapes() -> None:
    """The statements that asyncpg keeps for a connection, the least recently used dropped first."""
    kept = inspect.signature(asyncpg.connect).parameters["statement_cache_size"].default

    assert len(list(statements_of_lists())) < kept


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """A database with all tables, in each of the layouts of sessions."""
    url = await new_database(postgres, f"statements_{secrets.token_hex(6)}")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    return url


async def look_ups(url: str, *stores: SessionStore) -> list[Statement]:
    """The statements with which sessions are looked up."""
    pool = Pool(url, PoolSettings(1, 0, 5, 3600, pre_ping=False))
    lookups = [
        await find_session_lookup(
            Database(pool, 5), store, table=None, hash_secrets=[b"secret"], signing_secrets=[]
        )
        for store in stores
    ]
    await pool.close()
    return [lookup.statement for lookup in lookups]


async def described(url: str, statement: Statement) -> tuple[list[str], list[str]]:
    """The types of the parameters and of the columns, as the server has them."""
    connection = await asyncpg.connect(url)
    prepared = await connection.prepare(statement.sql)
    types = ([p.name for p in prepared.get_parameters()],
             [a.type.name for a in prepared.get_attributes()])  # fmt: skip
    await connection.close()
    return types


async def test_every_typed_statement_keeps_its_types(url: str) -> None:
    await run_sql(url, SESSION.format("varchar(255)"))
    statements = [
        *statements_of(task_sql),
        *statements_of_lists(),
        migrations._schema_check(None),
        *await look_ups(url, SessionStore.HASHED, SessionStore.BETTER_AUTH),
    ]
    assert len(statements) == 81
    assert all(statement.typed for statement in statements)
    before = [await described(url, statement) for statement in statements]

    await run_sql(url, CHANGES)

    after = [await described(url, statement) for statement in statements]
    assert after == before


async def test_none_has_a_type_that_asyncpg_must_ask_about_first(url: str) -> None:
    await run_sql(url, SESSION.format("text"))
    known = {"int4", "int8", "bool", "text", "varchar", "timestamptz", "float8", "text[]"}

    for statement in [
        *statements_of(task_sql),
        *statements_of_lists(),
        migrations._schema_check(None),
        *await look_ups(url, SessionStore.HASHED, SessionStore.BETTER_AUTH),
    ]:
        parameters, columns = await described(url, statement)
        assert {*parameters, *columns} <= known, statement.sql


@pytest.mark.parametrize(("kind", "typed"), [("text", True), ("char(32)", False), ("name", False)])
async def test_a_look_up_by_what_is_no_plain_text_is_not_called_typed(
    url: str, kind: str, typed: bool
) -> None:
    await run_sql(url, SESSION.format(kind))

    [lookup] = await look_ups(url, SessionStore.BETTER_AUTH)

    assert lookup.typed is typed
