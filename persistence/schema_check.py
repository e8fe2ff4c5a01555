"""Whether the database has the tables of this build. For servers, which need no Alembic for it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from sqlalchemy import Table

from persistence.database import Database
from persistence.database_requirements import ROW_SECURITY
from persistence.errors import Unavailable
from persistence.schema_names import qualified
from persistence.sql import Record, Statement
from persistence.tables import OWN_TABLES, VERSION_TABLE, WRITTEN_TABLES


class UnusableTables(Exception):
    """Row-level security hides rows from us; the message says what to change.

    Args:
        part: the part that fails: the name of one of our tables, or ``"sessions"``.
        reason: a sentence.
    """

    def __init__(self, part: str, reason: str) -> None:
        self.part = part
        super().__init__(reason)


class SchemaProblem(NamedTuple):
    """What keeps an instance from serving.

    Attributes:
        part: the part that fails: ``"schema"``, or the name of one of our tables.
        reason: why, for the log.
    """

    part: str
    reason: str


async def find_schema_problem(db: Database, session_table: str) -> SchemaProblem | None:
    """What keeps this instance from serving, if anything; one round trip.

    A revision that this build does not know is a newer one. It is no problem, because migrations
    keep what the previous release uses: old instances keep serving during a deploy.

    Args:
        session_table: the auth server's table, as SQL writes it.

    Raises:
        UnusableTables: row-level security applies to this role.
        Unavailable: the database does not answer.
    """
    statement = statement_of(db.schema)
    columns = {each.name: list(each.c.keys()) for each in OWN_TABLES}
    try:
        [record] = await db.read(statement, sessions=session_table, **columns)
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.UndefinedTableError):  # Never migrated.
            return BEHIND
        raise
    older, newest = revisions()
    present = set(record["revisions"])
    if not present or (newest not in present and not present.isdisjoint(older)):
        return BEHIND
    for table in OWN_TABLES:
        if problem := _table_problem(table, record):
            return problem
    if record["sessions_hidden"]:
        raise UnusableTables("sessions", ROW_SECURITY.format(table=session_table))
    return None


def _table_problem(table: Table, record: Record) -> SchemaProblem | None:
    name = str(table.name)  # SQLAlchemy's has a class of its own, which is not JSON.
    columns = record[f"{name}_columns"]
    if columns is None:
        return SchemaProblem(name, f"there is no table {name}")
    if columns < len(table.c):
        return SchemaProblem(name, f"a column of the table {name} is missing or unreadable")
    if table in WRITTEN_TABLES and not record[f"{name}_writable"]:
        return SchemaProblem(name, f"this role may not write the table {name}")
    if record[f"{name}_hidden"]:
        raise UnusableTables(name, ROW_SECURITY.format(table=name))
    return None


BEHIND: Final = SchemaProblem("schema", "it is behind this build: twofold migrate")


@cache
def statement_of(schema: str | None) -> Statement:
    checks, oids, names = [], [], ["sessions"]
    for table in OWN_TABLES:
        name = table.name
        names.append(name)
        oids.append(f"to_regclass('{qualified(name, schema)}')::oid AS {name}")
        checks.append(
            f"""
            CASE WHEN {name} IS NOT NULL THEN (
                SELECT count(*) FROM pg_attribute
                WHERE attrelid = {name} AND attname = ANY(${len(names)}::text[])
                    AND NOT attisdropped AND has_column_privilege({name}, attnum, 'SELECT')
            ) END AS {name}_columns,
            has_any_column_privilege({name}, 'INSERT')
                AND has_any_column_privilege({name}, 'UPDATE')
                AND has_table_privilege({name}, 'DELETE') AS {name}_writable,
            row_security_active({name}) AS {name}_hidden
            """  # noqa: S608  # constants
        )
    versions = qualified(VERSION_TABLE, schema)
    return Statement(
        f"""
        SELECT ARRAY(SELECT version_num::text FROM {versions}) AS revisions,
            {", ".join(checks)},
            row_security_active(to_regclass($1::text)::oid) AS sessions_hidden
        FROM (SELECT {", ".join(oids)}) AS t
        """,  # noqa: S608  # constants, and a name that needs no quotes
        tuple(names),
        typed=True,
    )


@cache
def revisions() -> tuple[frozenset[str], str]:
    """The revisions before the newest one, and the newest one.

    Read from the text of the migrations: to import them and Alembic takes 13 MiB in each worker.
    """
    parents: dict[str, str] = {}
    for script in (script_location() / "versions").glob("*.py"):
        parents |= dict([_REVISION.findall(script.read_text(encoding="utf-8"))])
    [newest] = parents.keys() - parents.values()
    return frozenset(parents) - {newest}, newest


_REVISION: Final = re.compile(r'^(?:down_)?revision = "?(\w+)"?$', re.MULTILINE)
"""A migration's own revision, and then the one before it."""


def script_location() -> Path:
    """The folder ``alembic``: inside this package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    in_wheel = package / "alembic"
    return in_wheel if in_wheel.exists() else package.parent / "alembic"
