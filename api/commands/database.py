"""The database of a command: where it is, and access to it. Reads no other setting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from api.commands.errors import CommandError
from api.dotenv import read_variable
from persistence.database import Database
from persistence.pool import Pool, PoolSettings
from persistence.schema_names import require_schema_name
from persistence.urls import parse_database_url

SECONDS: Final = 60.0
"""How long one batch of a command may take."""


class DatabaseVariables(NamedTuple):
    """Where our tables are.

    Attributes:
        url: the database.
        schema: of our tables; ``None`` for the one that connections find by themselves.
    """

    url: str
    schema: str | None


def read_database() -> DatabaseVariables:
    """Read and check ``DATABASE_URL`` and ``DATABASE_SCHEMA``.

    No other setting is read: a release step need not know the service's secrets.

    Raises:
        CommandError: the first is missing, or one of them is invalid.
    """
    url, schema = read_variable("DATABASE_URL"), read_variable("DATABASE_SCHEMA")
    if not url:
        raise CommandError("DATABASE_URL is not set: it names the database.", exit_code=2)
    try:
        parse_database_url(url)
    except ValueError as error:
        raise CommandError(f"DATABASE_URL: {error}", exit_code=2) from None
    if schema is not None:
        try:
            require_schema_name(schema)
        except ValueError as error:
            raise CommandError(f"DATABASE_SCHEMA: {error}", exit_code=2) from None
    return DatabaseVariables(url, schema)


@asynccontextmanager
async def batches(database: DatabaseVariables) -> AsyncIterator[Callable[[], Database]]:
    """Access to the database for many batches, over one connection.

    Yields:
        a function that makes the access of one batch, which may take ``SECONDS``.
    """
    pool = Pool(database.url, PoolSettings(1, 1, timeout=SECONDS, recycle=-1, pre_ping=False))
    try:
        yield lambda: Database(pool, SECONDS, schema=database.schema)
    finally:
        await pool.close()
