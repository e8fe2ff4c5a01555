"""PgBouncer in transaction mode: one round trip a statement, without prepared statements.

There each transaction may run on another server, so asyncpg's named statements cannot be used.
With its statement cache off, asyncpg asks for a statement's types before each run: two round
trips. Here the types are cached for each connection, and each run sends the SQL with its values.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_DESCRIPTIONS: Final = "described statements"
"""The key in a connection's ``info`` for its described statements, by their SQL."""


def cache_descriptions(engine: AsyncEngine) -> None:
    """Let this engine's connections cache the types of the statements that they run."""

    def connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_DESCRIPTIONS] = {}

    event.listen(engine.sync_engine, "connect", connect)


async def fetch(
    connection: PoolProxiedConnection, sql: str, arguments: list[Any], *, typed: bool
) -> Any:
    """Run a statement and return its records.

    Args:
        typed: whether the SQL itself fixes the type of every parameter and column. If it does not,
            the types are not cached: a column could get another type unnoticed, and a text would
            be read as a number.
    """
    driver: Any = connection.driver_connection
    descriptions = connection.info.get(_DESCRIPTIONS)
    if descriptions is None or not typed:
        return await driver.fetch(sql, *arguments)
    if sql not in descriptions:
        # The statement gets no name, because the connection's statement_cache_size is 0.
        descriptions[sql] = await driver.prepare(sql)
    return await descriptions[sql].fetch(*arguments)
