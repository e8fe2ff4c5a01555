"""One connection to PostgreSQL: asyncpg's, with what the pool must know of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from persistence.sql import Record, Statement
from persistence.timers import LazyTimeout
from persistence.urls import DatabaseURL

COMMAND_TIMEOUT: Final = 10.0
"""Seconds that one statement, or one attempt to connect, may take."""

PING_TIMEOUT: Final = 2.0
"""Seconds after which an unanswered ping means that the connection is lost."""

MAX_STATEMENTS: Final = 256
"""The prepared statements that one connection keeps: more than the service has."""

CANCEL_TIMEOUT: Final = 0.5
"""Seconds for asking the server to cancel a statement whose connection is closed."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """A connection outside a transaction: PostgreSQL commits each statement by itself.

    Attributes:
        opened_at: when it was opened, in monotonic seconds.
        idle_since: when it was returned to the pool, in monotonic seconds.
        is_pooled: whether it goes through PgBouncer.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.opened_at = self.idle_since = time.monotonic()
        self.is_pooled = False
        self._statements: dict[str, PreparedStatement] = {}

    async def run(
        self, statement: Statement, arguments: Sequence[Any], seconds: float
    ) -> Sequence[Record]:
        """Run a statement, and return its records; from its second run on in one round trip.

        asyncpg's ``fetch`` does the same, with a timer of its own and its own cache of statements:
        34 µs of CPU in place of 29 for one row.

        In PgBouncer's transaction mode each transaction may run on another server. So statements
        have no names there, and each run sends the SQL with its values. That is only for SQL that
        fixes its types itself. Otherwise a column could get another type unnoticed, and a text
        would be read as a number; of other SQL asyncpg asks for the types before each run.

        Args:
            seconds: how long it may take; ``COMMAND_TIMEOUT`` if that is less.

        Raises:
            TimeoutError: the server did not answer in time. The statement may still run.
            ConnectionResetError: the connection was closed.
            asyncpg.PostgresError: the server's error.
        """
        if self.is_closed():
            raise ConnectionResetError("the connection is closed")
        sql = statement.sql
        records: Sequence[Record]
        try:
            with LazyTimeout(min(seconds, COMMAND_TIMEOUT)):
                if self.is_pooled and not statement.typed:
                    records = await self.fetch(sql, *arguments)
                    return records
                prepared = self._statements.get(sql) or await self._keep_prepared(sql)
                try:
                    records = await self._execute_prepared(prepared, arguments)
                except asyncpg.InvalidCachedStatementError:
                    # It has columns of other types than when it was prepared. It was not executed.
                    prepared = await self._keep_prepared(sql)
                    records = await self._execute_prepared(prepared, arguments)
        except asyncpg.InterfaceError as error:
            # asyncpg has one class for a closed connection and for a misuse of an open one.
            if self.is_closed():
                raise ConnectionResetError(str(error)) from error
            raise
        return records

    async def _keep_prepared(self, sql: str) -> PreparedStatement:
        prepared = self._statements[sql] = await self.prepare(sql)
        if len(self._statements) > MAX_STATEMENTS:
            # The oldest one. asyncpg closes it on the server with the next that is prepared.
            del self._statements[next(iter(self._statements))]
        return prepared

    def _execute_prepared(
        self, prepared: PreparedStatement, arguments: Sequence[Any]
    ) -> Awaitable[Any]:
        # A portal without a name, no limit, the records alone, and no time-out.
        return self._protocol.bind_execute(prepared._state, arguments, "", 0, False, None)  # type: ignore[no-any-return]

    async def ping(self) -> bool:
        """Whether the server still answers. One round trip; a lost connection is closed."""
        try:
            await self.execute("SELECT 1", timeout=PING_TIMEOUT)
        except Exception:
            # An orderly end would wait for a response again.
            self.terminate()
            return False
        except BaseException:
            self.terminate()
            raise
        return True

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's
        """Cancel the running statement and close the connection, within ``CANCEL_TIMEOUT``.

        asyncpg asks for the cancellation on another connection. If that arrives before the
        statement does, the server ignores it, and the statement would wait for a lock for as long
        as somebody holds it, and be executed then. So half-way it is asked for again.
        """
        again = asyncio.create_task(self._cancel_later(CANCEL_TIMEOUT / 2))
        try:
            with suppress(TimeoutError, OSError):
                await super().close(timeout=CANCEL_TIMEOUT)
        finally:
            again.cancel()

    async def _cancel_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._cancel(asyncio.get_running_loop().create_future())


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
    connection.is_pooled = database.pooled
    return connection
