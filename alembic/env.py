"""Runs the migrations on asyncpg, in one transaction, by one instance at a time.

Afterwards it builds the indexes that no transaction can build.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, text

from alembic import context
from api.dotenv import load_database_url, read_variable
from persistence.database_requirements import ENCODING, wrong_encoding
from persistence.migrations import (
    MIGRATION_LOCK,
    CannotMigrate,
    adopt_revision,
    create_engine,
    require_moved,
)
from persistence.online_indexes import build_online_indexes, offline_sql
from persistence.schema_names import require_schema_name
from persistence.tables import VERSION_TABLE, metadata


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Whether autogenerate compares this object: of the tables only ours, not the auth server's."""
    return kind != "table" or name in metadata.tables


def run(connection: Connection) -> None:
    """Run the outstanding migrations on a connection.

    Raises:
        CannotMigrate: the database has another encoding.
    """
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        # Before Alembic reads the current revision, so that it sees what another instance did.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        encoding = connection.scalar(text("SELECT current_setting('server_encoding')"))
        if encoding != ENCODING:
            raise CannotMigrate(wrong_encoding(str(encoding)))
        enter_schema(connection)
        adopt_revision(connection)
        context.run_migrations()


def leads_to_the_newest() -> bool:
    """Whether the command ends at the newest revision."""
    try:
        return context.get_revision_argument() == context.get_head_revision()
    except KeyError:  # A command without one, that only compares.
        return False


def schema() -> str | None:
    """The schema of our tables, if it is not the one that connections find by themselves.

    Raises:
        CannotMigrate: its name is not one.
    """
    attributes = context.config.attributes
    name: str | None = attributes.get("schema")
    if attributes.get("url") is None:
        name = read_variable("DATABASE_SCHEMA")
    if name is not None:
        try:
            require_schema_name(name)
        except ValueError as error:
            raise CannotMigrate(f"DATABASE_SCHEMA: {error}") from None
    return name


def enter_schema(connection: Connection) -> None:
    """Let this transaction's statements be about our schema; create it if it does not exist."""
    if name := schema():
        require_moved(connection, name)
        if not connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": name}):
            connection.execute(text(f"CREATE SCHEMA {name}"))
        connection.execute(text(f"SET LOCAL search_path TO {name}"))


async def run_online() -> None:
    """Connect, migrate, disconnect."""
    engine = create_engine(context.config.attributes.get("url") or load_database_url())
    async with engine.connect() as connection:
        await connection.run_sync(run)
    if leads_to_the_newest():
        await build_online_indexes(engine, schema())
    await engine.dispose()


def run_offline() -> None:
    """Print the migrations as SQL, to be run by hand (``--sql``)."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        literal_binds=True,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        context.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        if name := schema():
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
            context.execute(f"SET LOCAL search_path TO {name}")
        context.run_migrations()
        if leads_to_the_newest():
            for sql in offline_sql():
                context.execute(sql)


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
