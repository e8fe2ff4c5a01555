"""One connection to PostgreSQL: asyncpg's, with what the pool must know of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from persistence.sql import Record, Statement
from persistence.urls import DatabaseURL

COMMAND_TIMEOUT: Final = 10.0
"""Seconds that one statement, or one attempt to connect, may take."""

PING_TIMEOUT: Final = 2.0
"""Seconds after which an unanswered ping means that the connection is lost."""

CANCEL_TIMEOUT: Final = 0.5
"""Seconds for asking the server to cancel a statement whose connection is closed."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """A connection outside a transaction: PostgreSQL commits each statement by itself.

    Attributes:
        opened_at: when it was opened, in monotonic seconds.
        idle_since: when it was returned to the pool, in monotonic seconds.
        descriptions: behind PgBouncer the described statements, by their SQL; else ``None``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.opened_at = self.idle_since = time.monotonic()
        self.descriptions: dict[str, Any] | None = None

    async def run(
        self,
        statement: Statement,
        arguments: Sequence[Any],
        timeout: float,  # noqa: ASYNC109  # asyncpg's own, which costs less than asyncio's
    ) -> Sequence[Record]:
        """Run a statement in one round trip, and return its records.

        Args:
            timeout: in seconds; ``COMMAND_TIMEOUT`` if that is less.

        Raises:
            TimeoutError: the server did not answer in time. The statement may still run.
            ConnectionResetError: the connection was closed.
            asyncpg.PostgresError: the server's error.
        """
        timeout = min(timeout, COMMAND_TIMEOUT)
        records: Sequence[Record]
        try:
            if self.descriptions is None or not statement.typed:
                records = await self.fetch(statement.sql, *arguments, timeout=timeout)
            else:
                records = await self._run_described(statement.sql, arguments, timeout)
        except asyncpg.InterfaceError as error:
            # asyncpg has one class for a closed connection and for a misuse of an open one.
            if self.is_closed():
                raise ConnectionResetError(str(error)) from error
            raise
        return records

    async def _run_described(
        self,
        sql: str,
        arguments: Sequence[Any],
        timeout: float,  # noqa: ASYNC109
    ) -> Any:
        """Run a statement without a name on the server, in one round trip from the second run on.

        In PgBouncer's transaction mode each transaction may run on another server, so named
        statements cannot be used. Without its statement cache, asyncpg asks for a statement's
        types before each run: two round trips. Here the types are cached, and each run sends the
        SQL with its values. Only for SQL that fixes its types itself: otherwise a column could
        get another type unnoticed, and a text would be read as a number.
        """
        assert self.descriptions is not None
        described = self.descriptions.get(sql)
        if described is None:
            started = time.monotonic()
            # It gets no name, because the connection's statement_cache_size is 0.
            described = self.descriptions[sql] = await self.prepare(sql, timeout=timeout)
            timeout = max(0.001, timeout - (time.monotonic() - started))
        return await described.fetch(*arguments, timeout=timeout)

    async def ping(self) -> bool:
        """Whether the server still answers. One round trip; a lost connection is closed."""
        try:
            await self.execute("SELECT 1", timeout=PING_TIMEOUT)
        except Exception:
            # An orderly end would wait for an answer again.
            self.terminate()
            return False
        except BaseException:
            self.terminate()
            raise
        return True

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's
        """Cancel the running statement and close the connection, within ``CANCEL_TIMEOUT``."""
        with suppress(TimeoutError, OSError):
            await super().close(timeout=CANCEL_TIMEOUT)


async def connect(database: DatabaseURL) -> Connection:
    """Open a connection.

    Raises:
        TimeoutError: the server did not answer in time.
        OSError: it cannot be reached.
        asyncpg.PostgresError: it refuses us.
    """
    connection: Connection = await database.connect(
        timeout=COMMAND_TIMEOUT, connection_class=Connection
    )
    if database.pooled:
        connection.descriptions = {}
    return connection
