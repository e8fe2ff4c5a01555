"""Runs the migrations: on asyncpg, in one transaction, one instance at a time."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from api.settings import load_database_url
from persistence.migrations import CannotMigrate
from persistence.tables import ENCODING, metadata, wrong_encoding
from persistence.urls import parse_database_url

# Any number will do, as long as it stays the same: it is what concurrent migrations lock.
MIGRATION_LOCK = 7_021_999_021


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Whether autogenerate may look at it: the auth server's tables are not ours to compare."""
    return kind != "table" or name in metadata.tables


def run(connection: Connection) -> None:
    """Run the migrations that are due on this connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        # Before Alembic reads which revision is current: whoever waited here sees the result.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        encoding = connection.scalar(text("SELECT current_setting('server_encoding')"))
        if encoding != ENCODING:
            raise CannotMigrate(wrong_encoding(str(encoding)))
        context.run_migrations()


async def run_online() -> None:
    """Connect, migrate, disconnect."""
    target = parse_database_url(context.config.attributes.get("url") or load_database_url())
    engine = create_async_engine(
        target.url, connect_args=target.connect_args, poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def run_offline() -> None:
    """Write the migrations as SQL, for those who run them by hand (``--sql``)."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
