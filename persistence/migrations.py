"""Migrating a database to this build's schema, and checking whether that has been done."""

from __future__ import annotations

from typing import Final

from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from alembic import command
from persistence import schema_check
from persistence.schema_names import qualified
from persistence.tables import VERSION_TABLE
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
    scripts = str(schema_check.script_location())
    configuration.set_main_option("script_location", scripts.replace("%", "%%"))
    configuration.attributes.update(url=url, schema=schema)
    return configuration


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
    known, newest = schema_check.revisions()
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
    older, newest = schema_check.revisions()
    ours = [*older, newest]
    is_adopted = connection.scalar(text(f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"))
    if not connection.scalar(_IS_SHARED):
        return
    shared = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    applied = [revision for revision in shared if revision in ours]
    if not applied:
        return
    if not is_adopted:
        connection.execute(
            text(
                f"CREATE TABLE {VERSION_TABLE} (version_num varchar(32) NOT NULL,"
                f" CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
            )
        )
        insert = text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)")  # noqa: S608  # a constant
        connection.execute(insert, [{"revision": revision} for revision in applied])
    if is_adopted or len(applied) < len(shared):
        connection.execute(
            text("DELETE FROM alembic_version WHERE version_num = ANY(:applied)"),
            {"applied": applied},
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
