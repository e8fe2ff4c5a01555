"""Migrating a database to this build's schema, and checking whether that has been done."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sql import Record, Statement
from persistence.tables import OWN_TABLES, ROW_SECURITY, VERSION_TABLE, qualified
from persistence.urls import parse_database_url


class CannotMigrate(Exception):
    """Migrations must not change this database; the message says why, and what to do."""


def config(url: str | None = None, schema: str | None = None) -> Config:
    """Alembic's configuration for these migrations.

    Args:
        url: the database, in any form that ``parse_database_url`` reads; without it,
            ``DATABASE_URL`` and ``DATABASE_SCHEMA``.
        schema: of our tables, with a ``url``.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    configuration.attributes.update(url=url, schema=schema)
    return configuration


def script_location() -> Path:
    """The folder ``alembic``: inside this package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    in_wheel = package / "alembic"
    return in_wheel if in_wheel.exists() else package.parent / "alembic"


def upgrade(url: str, schema: str | None = None) -> None:
    """Upgrade a database to the newest schema, as ``alembic upgrade head`` does.

    Args:
        url: the database.
        schema: of our tables; it is created if it does not exist.

    If several instances migrate at the same time, one does the work and the others wait for it.
    Must not be called from a thread that runs an event loop.

    Raises:
        CannotMigrate: the database has another encoding, or a table of a name of ours that is not
            ours.
    """
    command.upgrade(config(url, schema), "head")


def stamp(url: str, revision: str, schema: str | None = None) -> str:
    """Set the revision of a database without running migrations, as ``alembic stamp`` does.

    Args:
        url: the database.
        revision: of a migration, or ``head``.
        schema: of our tables.

    Returns:
        the revision by its full name.

    Raises:
        CannotMigrate: there is no such revision; or see ``upgrade``.
    """
    known, newest = _revisions()
    if revision == "head":
        revision = newest
    if revision not in {*known, newest}:
        names = ", ".join(sorted({*known, newest}))
        raise CannotMigrate(f"There is no revision {revision!r}. There are: head, {names}.")
    # Also in place of one that this build does not know.
    command.stamp(config(url, schema), revision, purge=True)
    return revision


def create_engine(url: str) -> AsyncEngine:
    """An engine that opens a connection for each use, as the service does.

    Raises:
        ValueError: the URL is invalid.
    """
    database = parse_database_url(url)
    return create_async_engine(
        "postgresql+asyncpg://",
        # Through PgBouncer, statements that SQLAlchemy caches give wrong values after the type of a
        # column has changed.
        connect_args={"async_creator_fn": database.connect, "prepared_statement_cache_size": 0},
        poolclass=NullPool,
    )


MIGRATION_LOCK: Final = 7_021_999_021
"""The advisory lock that concurrent migrations wait for; arbitrary, the same in all releases."""


def adopt_revision(connection: Connection) -> None:
    """Move our revision out of ``alembic_version``, which other applications use as well.

    Alembic stops at a revision that it does not know: theirs would stop our migrations, and ours
    would stop theirs. Instances of the release before read the old place, and take it for a newer
    schema when other revisions are there. Where they are not, our row stays until the next
    migration, so that these instances keep serving during a deploy.
    """
    ours = [*_revisions()[0], _revisions()[1]]
    is_adopted = connection.scalar(text(f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"))
    if not connection.scalar(_IS_SHARED):
        return
    shared = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    found = [revision for revision in shared if revision in ours]
    if not found:
        return
    if not is_adopted:
        connection.execute(
            text(
                f"CREATE TABLE {VERSION_TABLE} (version_num varchar(32) NOT NULL,"
                f" CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
            )
        )
        insert = text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)")  # noqa: S608  # a constant
        connection.execute(insert, [{"revision": revision} for revision in found])
    if is_adopted or len(found) < len(shared):
        connection.execute(
            text("DELETE FROM alembic_version WHERE version_num = ANY(:found)"), {"found": found}
        )


# False if another role owns it and we have not the rights to it: then our revision is not in it.
# False as well for a table that is not Alembic's.
_IS_SHARED: Final = text(
    """
    SELECT coalesce(
        has_table_privilege(shared, 'SELECT') AND has_table_privilege(shared, 'DELETE')
        AND EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = shared AND attname = 'version_num'
        ), false)
    FROM (SELECT to_regclass('alembic_version')::oid AS shared) AS t
    """
)


def require_moved(connection: Connection, schema: str) -> None:
    """Require that no installation is left behind in the schema that connections find.

    Raises:
        CannotMigrate: there is one, and none in ``schema``. A second, empty one would hide it.
    """
    names = {"there": qualified(VERSION_TABLE, schema), "here": VERSION_TABLE}
    query = text("SELECT to_regclass(:here) IS NOT NULL AND to_regclass(:there) IS NULL")
    if connection.scalar(query, names):
        raise CannotMigrate(
            f"The database has an installation outside the schema {schema}. Stop every instance, "
            "then move it there: twofold move-tables."
        )


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
    statement = _schema_check(db.schema)
    columns = {each.name: list(each.c.keys()) for each in OWN_TABLES}
    try:
        [record] = await db.read(statement, sessions=session_table, **columns)
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.UndefinedTableError):  # Never migrated.
            return BEHIND
        raise
    older, newest = _revisions()
    revisions = set(record["revisions"])
    if not revisions or (newest not in revisions and not revisions.isdisjoint(older)):
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
    if not record[f"{name}_writable"]:
        return SchemaProblem(name, f"this role may not write the table {name}")
    if record[f"{name}_hidden"]:
        raise UnusableTables(name, ROW_SECURITY.format(table=name))
    return None


BEHIND: Final = SchemaProblem("schema", "it is behind this build: twofold migrate")


@cache
def _schema_check(schema: str | None) -> Statement:
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
def _revisions() -> tuple[frozenset[str], str]:
    """The revisions before the newest one, and the newest one."""
    scripts = ScriptDirectory.from_config(config())
    newest = scripts.get_current_head()
    assert newest is not None
    return frozenset(script.revision for script in scripts.walk_revisions()) - {newest}, newest
