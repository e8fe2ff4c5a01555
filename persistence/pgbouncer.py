"""Behind PgBouncer in transaction mode: one round trip a statement, with nothing kept there.

There each transaction may meet another server, so asyncpg's named statements cannot be used;
and with its cache off it asks what a statement's types are, each time, before it runs it: two
trips. Here the answer is kept. Each run sends the SQL again, together with its values.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_DESCRIBED: Final = "statements that were described"


def describe_once(engine: AsyncEngine) -> None:
    """Let this engine's connections remember the types of the statements they ran."""

    def connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_DESCRIBED] = {}

    event.listen(engine.sync_engine, "connect", connect)


async def fetch(
    connection: PoolProxiedConnection, sql: str, arguments: list[Any], *, typed: bool
) -> Any:
    """The records of a statement.

    Args:
        typed: the SQL itself fixes the type of every parameter and of every column. Otherwise
            the types are asked for anew: nobody would notice that a column has got another, and
            what is sent as text would be read as a number.
    """
    driver: Any = connection.driver_connection
    described = connection.info.get(_DESCRIBED)
    if described is None or not typed:
        return await driver.fetch(sql, *arguments)
    if sql not in described:
        # Without a name, because the connection's statement_cache_size is 0.
        described[sql] = await driver.prepare(sql)
    return await described[sql].fetch(*arguments)
