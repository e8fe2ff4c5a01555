"""One request's access to the database: one round trip a statement, one deadline a request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from persistence.errors import Unavailable, connection_lost, server_at_fault
from persistence.pgbouncer import fetch
from persistence.pool import UNIDENTIFIED, Slot, acquire_slot
from persistence.sql import Record, Statement

CONNECTING: Final = "connecting"
"""The step in which a connection is opened, or taken from the pool and checked."""

MAX_CONCURRENT: Final = 4
"""Statements that one request runs at once; the time of waiting counts towards its deadline."""

RETRY_FOR: Final = 8.0
"""Seconds for which a lost connection is replaced, for a restart or a short crash of PostgreSQL.

Below the usual deadline, so that the log contains the reason instead of a time-out.
"""


class Database:
    """One request's access to the database: any number of statements, one deadline over all.

    Args:
        engine: an engine of ``persistence.pool.create_engine``.
        seconds: how long all statements may take together, including the wait for a connection.
            The time between statements does not count; concurrent statements count once.
        share: the share that the connections belong to (``persistence.pool.Shares``).
        schema: of our tables; ``None`` for the one that the connections find by themselves.

    Attributes:
        share: may be changed when the request is authenticated.
    """

    __slots__ = ("_engine", "_running", "_seconds_left", "_since", "_slots", "schema", "share")

    def __init__(
        self,
        engine: AsyncEngine,
        seconds: float,
        share: str = UNIDENTIFIED,
        schema: str | None = None,
    ) -> None:
        self.share = share
        self.schema = schema
        self._engine = engine
        self._seconds_left = seconds
        self._running = 0
        self._since = 0.0
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def read(self, statement: Statement, /, **values: Any) -> Sequence[Record]:
        """Run a statement that changes nothing. If the connection is lost, run it on another one.

        Raises:
            Unavailable: the database did not answer within the deadline, or failed.
        """
        return await self._within_deadline(statement, values, repeatable=True)

    async def write(self, statement: Statement, /, **values: Any) -> Sequence[Record]:
        """Run a statement that changes something, once.

        Only connecting is repeated. If the connection is lost after the statement was sent, it is
        unknown whether the statement was executed, so the error is reported.

        Raises:
            Unavailable: the database did not answer within the deadline, or failed.
        """
        return await self._within_deadline(statement, values, repeatable=False)

    async def _within_deadline(
        self, statement: Statement, values: Mapping[str, Any], *, repeatable: bool
    ) -> Sequence[Record]:
        statement = statement.in_schema(self.schema)
        now = time.monotonic()
        if not self._running:
            self._since = now
        self._running += 1
        seconds = self._seconds_left - (now - self._since)
        progress = _Progress()
        try:
            if seconds <= 0:
                raise TimeoutError("none of the deadline is left")
            async with asyncio.timeout(seconds), self._slots:
                return await self._with_fresh_connections(
                    statement, statement.arguments(values), repeatable, progress
                )
        except Exception as error:
            cause = _driver_error(error)
            # An error while connecting is never the statement's fault.
            is_server_fault = server_at_fault(cause) or isinstance(cause, sa_exc.SQLAlchemyError)
            if is_server_fault or progress.step == CONNECTING:
                raise Unavailable(f"database: {_reason(cause, progress)}") from error
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._seconds_left -= time.monotonic() - self._since

    async def _with_fresh_connections(
        self, statement: Statement, arguments: list[Any], repeatable: bool, progress: _Progress
    ) -> Sequence[Record]:
        give_up_at = time.monotonic() + RETRY_FOR
        pause = 0.02
        while True:
            connection = None
            try:
                async with acquire_slot(self._engine, self.share) as slot:
                    progress.step = CONNECTING
                    connection = await self._engine.raw_connection()
                    progress.step = "running the statement"
                    return await _run(connection, statement, arguments, slot)
            except Exception as error:
                progress.failure = error
                may_repeat = (
                    _may_connect_later(error)
                    if connection is None
                    else repeatable and connection_lost(error)
                )
                if not may_repeat or time.monotonic() + pause > give_up_at:
                    raise
            # With jitter, because many requests lose their connections at the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 0.5)


class _Progress:
    """The current step of a statement and its last failure, for the log: a time-out has no text."""

    __slots__ = ("failure", "step")

    def __init__(self) -> None:
        self.step = "waiting for a connection"
        self.failure: Exception | None = None


_POOLER_ERRORS: Final = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)


def _reason(error: BaseException, progress: _Progress) -> str:
    """The message of the driver or the server; without one, the current step and last failure."""
    # One line, because the DETAIL that PostgreSQL adds may contain a viewer's data.
    text = str(error).partition("\n")[0] or progress.step
    before = progress.failure and _driver_error(progress.failure)
    if isinstance(error, TimeoutError) and before and before is not error:
        text += f", after {_reason(before, _Progress())}"
    if isinstance(error, _POOLER_ERRORS):
        text += " (behind a pooler in transaction mode, DATABASE_URL needs ?pgbouncer=true)"
    return f"{type(error).__name__}: {text}"


def _may_connect_later(error: Exception) -> bool:
    """Whether another attempt may get a connection, a new one or a returned one."""
    if isinstance(error, sa_exc.InvalidRequestError):
        return True  # SQLAlchemy gave up: each connection that it tried was closed.
    cause = _driver_error(error)
    return connection_lost(cause) or isinstance(cause, asyncpg.TooManyConnectionsError)


async def _run(
    connection: PoolProxiedConnection, statement: Statement, arguments: list[Any], slot: Slot
) -> Sequence[Record]:
    driver = connection.driver_connection
    assert driver is not None
    try:
        records: Sequence[Record] = await fetch(
            connection, statement.sql, arguments, typed=statement.typed
        )
    except BaseException as error:
        if _is_reusable_after(error, driver):
            await greenlet_spawn(connection.close)
        else:
            _abandon(connection, driver, slot)
        raise
    await greenlet_spawn(connection.close)
    return records


def _is_reusable_after(error: BaseException, driver: Any) -> bool:
    """Whether the error came from the server, on a connection that still works."""
    is_from_server = isinstance(error, asyncpg.PostgresError)
    return is_from_server and not connection_lost(error) and not driver.is_closed()


def _abandon(connection: PoolProxiedConnection, driver: Any, slot: Slot) -> None:
    """Close a connection that is lost or busy, and cancel the statement that runs on it.

    Without that the statement would go on, and hold its locks and one of the server's connections.
    It happens in the background, because the request's time is up and its task may be cancelled
    again. The slot is released when the connection is closed.
    """
    slot.keep()
    task = asyncio.create_task(_close(connection, driver, slot))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


# References to running tasks; the event loop itself keeps only weak ones.
_closing: Final[set[asyncio.Task[None]]] = set()


async def _close(connection: PoolProxiedConnection, driver: Any, slot: Slot) -> None:
    try:
        with suppress(Exception):
            await driver.close()
        await greenlet_spawn(connection.invalidate)
    finally:
        slot.end()


def _driver_error(error: BaseException) -> BaseException:
    """The driver's exception, without the wrappers of SQLAlchemy and its adapter."""
    while True:
        inner = getattr(error, "orig", None) or getattr(error, "driver_exception", None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
