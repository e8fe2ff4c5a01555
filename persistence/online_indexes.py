"""Indexes that are built while the service reads and writes the table, after the migrations.

``CREATE INDEX`` would lock a large table against writes for as long as it takes. ``CONCURRENTLY``
does not, but it runs in no transaction, and the migrations are one. So the indexes have no
revision: what is missing is built after an upgrade. Without them the results are the same.
"""

from __future__ import annotations

from typing import Final

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateIndex

from persistence.schema_names import qualified
from persistence.tables import ONLINE_INDEXES


async def build_online_indexes(engine: AsyncEngine, schema: str | None) -> None:
    """Build those that are missing, or that an interrupted build left unusable.

    If another instance is building one of a table, that table's are left to it. Waits for
    transactions that began earlier, and keeps nobody waiting.

    Args:
        schema: of our tables; ``None`` for the one that connections find by themselves.
    """
    options = {"isolation_level": "AUTOCOMMIT", "schema_translate_map": {None: schema}}
    async with engine.connect() as connection:
        await connection.execution_options(**options)
        for _ in range(_ATTEMPTS):
            try:
                return await connection.run_sync(_build, schema)
            except DBAPIError as error:
                # Two instances that began at the same moment wait for each other.
                if getattr(error.orig, "sqlstate", "") != _DEADLOCK:
                    raise


_ATTEMPTS: Final = 5
_DEADLOCK: Final = asyncpg.DeadlockDetectedError.sqlstate


def _build(connection: Connection, schema: str | None) -> None:
    for index in ONLINE_INDEXES:
        assert index.table is not None
        name, table = qualified(str(index.name), schema), qualified(index.table.name, schema)
        state = connection.execute(_STATE, {"table": table, "index": index.name}).one()
        if state.is_being_built or state.is_valid:
            continue
        if state.is_valid is False:
            connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
        connection.execute(CreateIndex(index, if_not_exists=True))


_STATE: Final = text(
    """
    SELECT (
        SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = to_regclass(:table) AND relname = :index
    ) AS is_valid,
    EXISTS (
        SELECT FROM pg_stat_progress_create_index WHERE relid = to_regclass(:table)
    ) AS is_being_built
    """
)


def offline_sql() -> list[str]:
    """The same as SQL to be run by hand, in a transaction: it locks the tables against writes."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return [
        str(CreateIndex(index).compile(dialect=dialect)).replace(" CONCURRENTLY", "", 1)
        for index in ONLINE_INDEXES
    ]
