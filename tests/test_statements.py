"""What a statement says of itself: its types are its own, whatever the tables' columns become.

Behind PgBouncer they are asked for once and kept (``persistence.connection``), so this must hold.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import pytest
from sqlalchemy import CTE, ColumnElement, Delete, Select, Update, delete, func, select, update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.operators import is_, is_not

from persistence import feed_sql, schema_check, task_lists, task_sql
from persistence.connection import MAX_STATEMENTS, connect
from persistence.database import Database
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.pool import Pool, PoolSettings
from persistence.sessions.layouts import find_session_lookup
from persistence.sessions.store import SessionStore
from persistence.sql import Statement
from persistence.tables import tasks as table
from persistence.urls import parse_database_url
from tests.conftest import new_database, run_sql
from tests.people import SESSION_TABLES

SESSION: Final = 'CREATE TABLE session (token {}, "userId" int, "expiresAt" timestamp)'

CHANGES: Final = """
ALTER TABLE tasks ALTER id TYPE integer, ALTER user_id TYPE varchar(50), ALTER title TYPE text,
    ALTER description TYPE varchar(1500), ALTER version TYPE bigint,
    ALTER created_at TYPE timestamp, ALTER updated_at TYPE timestamp,
    ALTER deleted_at TYPE timestamp;
ALTER TABLE idempotency_keys ALTER user_id TYPE varchar(50), ALTER key TYPE text,
    ALTER fingerprint TYPE varchar(64), ALTER outcome TYPE jsonb;
ALTER TABLE feeds ALTER user_id TYPE varchar(50), ALTER epoch TYPE integer, ALTER seq TYPE numeric,
    ALTER floor TYPE integer;
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


# --- The trash ----------------------------------------------------------------------------

BOTH: Final = {"REASSIGN"}
"""The statements that are meant for tasks that live and for those in the trash."""


def named_statements() -> Iterator[tuple[str, Statement]]:
    """The statements about tasks, each with its name and, in a table, its key."""
    for name, value in vars(task_sql).items():
        several = value.items() if isinstance(value, dict) else [("", value)]
        yield from (
            (f"{name} {key}".strip(), each) for key, each in several if isinstance(each, Statement)
        )
    yield from ((str(shape), task_lists.list_statement(shape)) for shape in task_lists.SHAPES)
    yield from ((f"{kind!r}", task_lists.count_statement(kind)) for kind in task_lists.Kind)


def forgetful_parts(statement: Statement) -> list[str]:
    """The parts of a statement that take tasks whether they are in the trash or not."""
    assert statement.source is not None
    return [
        str(part)
        for part in parts_of(statement.source, set())
        if isinstance(part, Select | Update | Delete)
        and takes_tasks(part)
        and not names_the_mark(part.whereclause)
    ]


def parts_of(element: Any, seen: set[int]) -> Iterator[Any]:
    """Everything that a statement consists of, each once, writes before a select included."""
    if id(element) in seen:
        return
    seen.add(id(element))
    yield element
    below = [*element.get_children()]
    if isinstance(element, CTE):
        below.append(element.element)
    if isinstance(element, Update | Delete):
        below += froms_of(element.whereclause)
    for each in below:
        yield from parts_of(each, seen)


def takes_tasks(part: Select[Any] | Update | Delete) -> bool:
    if isinstance(part, Select):
        return table in part.get_final_froms()
    # What a part before it has chosen, and locked, is not chosen again.
    is_chosen = any(isinstance(each, CTE) for each in froms_of(part.whereclause))
    return part.table is table and not is_chosen


def froms_of(clause: ColumnElement[Any] | None) -> list[Any]:
    return [] if clause is None else clause._from_objects


def names_the_mark(clause: ColumnElement[Any] | None) -> bool:
    return clause is not None and any(
        isinstance(each, BinaryExpression)
        and each.left is table.c.deleted_at
        and each.operator in (is_, is_not)
        for each in visitors.iterate(clause)
    )


@pytest.mark.parametrize("name", [name for name, _ in named_statements()])
def test_every_statement_says_whether_its_tasks_live(name: str) -> None:
    forgetful = forgetful_parts(dict(named_statements())[name])

    assert bool(forgetful) == (name in BOTH), forgetful


@pytest.mark.parametrize(
    "forgetful",
    [
        select(table.c.title).where(table.c.user_id == "ada"),
        select(func.count()).select_from(table),
        update(table).values(title="mine").where(table.c.id == 1),
        delete(table),
        select(select(table.c.id).where(table.c.id == 1).cte().c.id),
    ],
    ids=["select", "count", "update", "delete", "part"],
)
def test_a_statement_that_forgets_the_trash_is_noticed(forgetful: Any) -> None:
    assert forgetful_parts(Statement("", (), source=forgetful))


# --- Types --------------------------------------------------------------------------------


def statements_of_lists() -> Iterator[Statement]:
    """Every statement that lists or counts tasks."""
    yield from map(task_lists.list_statement, task_lists.SHAPES)
    yield from map(task_lists.count_statement, task_lists.Kind)


def test_a_connection_keeps_every_statement_alone_and_with_the_look_up_of_a_session() -> None:
    statements = [*statements_of_lists(), *statements_of(task_sql)]

    assert 2 * len(statements) <= MAX_STATEMENTS


async def test_a_connection_keeps_so_many_statements_and_no_more(url: str) -> None:
    connection = await connect(parse_database_url(url))
    for number in range(MAX_STATEMENTS + 20):
        await connection.run(Statement(f"SELECT {number}", ()), (), 5.0)

    [kept] = await connection.run(
        Statement("SELECT count(*) FROM pg_prepared_statements", ()), (), 5.0
    )
    await connection.close()

    assert len(connection._statements) == MAX_STATEMENTS
    assert kept[0] <= MAX_STATEMENTS + 1


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
        *statements_of(task_sql, feed_sql),
        *statements_of_lists(),
        schema_check.statement_of(None),
        *await look_ups(url, SessionStore.HASHED, SessionStore.BETTER_AUTH),
    ]
    assert len(statements) == 96
    assert all(statement.typed for statement in statements)
    before = [await described(url, statement) for statement in statements]

    await run_sql(url, CHANGES)

    after = [await described(url, statement) for statement in statements]
    assert after == before


async def test_none_has_a_type_that_asyncpg_must_ask_about_first(url: str) -> None:
    await run_sql(url, SESSION.format("text"))
    known = {"int4", "int8", "bool", "text", "varchar", "timestamptz", "float8", "text[]"}

    for statement in [
        *statements_of(task_sql, feed_sql),
        *statements_of_lists(),
        schema_check.statement_of(None),
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
