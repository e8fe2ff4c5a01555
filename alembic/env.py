"""Runs the migrations on asyncpg, in one transaction, by one instance at a time."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from api.dotenv import load_database_url
from persistence.migrations import CannotMigrate
from persistence.tables import ENCODING, metadata, wrong_encoding
from persistence.urls import parse_database_url

# The advisory lock that concurrent migrations wait for. The number is arbitrary; all releases must
# use the same.
MIGRATION_LOCK = 7_021_999_021


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
    )
    with context.begin_transaction():
        # Before Alembic reads the current revision, so that it sees what another instance did.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        encoding = connection.scalar(text("SELECT current_setting('server_encoding')"))
        if encoding != ENCODING:
            raise CannotMigrate(wrong_encoding(str(encoding)))
        context.run_migrations()


async def run_online() -> None:
    """Connect, migrate, disconnect."""
    database = parse_database_url(context.config.attributes.get("url") or load_database_url())
    engine = create_async_engine(
        database.url, connect_args=database.connect_args, poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def run_offline() -> None:
    """Print the migrations as SQL, to be run by hand (``--sql``)."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
