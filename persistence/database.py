"""How statements reach the database: the pool, one round trip each, and one deadline a request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only, greenlet_spawn

from persistence.errors import Unavailable, connection_lost, server_at_fault
from persistence.pgbouncer import describe_once, fetch
from persistence.pool import IDLE_SINCE, UNIDENTIFIED, FairPool, Turn, in_turn
from persistence.sql import Record, Statement
from persistence.urls import parse_database_url

COMMAND_TIMEOUT: Final = 10.0
"""Seconds one statement, or one attempt to connect, may take."""

PING_AFTER_IDLE: Final = 30.0
"""Seconds a connection may lie idle and still be trusted without a ping (one round trip)."""

PING_TIMEOUT: Final = 2.0
"""Seconds after which a ping without an answer means that the connection is lost."""

CANCEL_TIMEOUT: Final = 0.5
"""Seconds for telling the server that nobody waits for its statement any more."""

CONNECTING: Final = "connecting"
"""The step in which a connection is made, or taken from the pool and looked at."""

MAX_CONCURRENT: Final = 4
"""Statements that one request has under way at once; its others wait, at its deadline's cost."""

RETRY_FOR: Final = 8.0
"""Seconds for which a lost connection is answered by a fresh one: a restart, a short crash.

Below the usual deadline, so that the log has the reason rather than a time-out.
"""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The pool's size and patience. Times are in seconds."""

    size: int
    max_overflow: int
    timeout: float
    recycle: int
    pre_ping: bool


def create_engine(url: str, pool: PoolSettings) -> AsyncEngine:
    """The engine for a URL as people paste it. Opens no connection yet.

    Raises:
        ValueError: the URL cannot be understood; the sentence says why.
    """
    target = parse_database_url(url)
    engine = create_async_engine(
        target.url,
        connect_args={
            "connection_class": _Connection,
            "timeout": COMMAND_TIMEOUT,
            "command_timeout": COMMAND_TIMEOUT,
            **target.connect_args,
        },
        poolclass=FairPool,
        pool_size=pool.size,
        max_overflow=pool.max_overflow,
        pool_timeout=pool.timeout,
        pool_recycle=pool.recycle,
    )
    _watch_idle_connections(engine, pool.pre_ping)
    if target.pooled:
        describe_once(engine)
    return engine


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """asyncpg's own, which otherwise waits for ten seconds to be told good-bye."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # theirs
        """Close, and cancel a statement that runs; without an answer, after CANCEL_TIMEOUT."""
        with suppress(TimeoutError, OSError):
            await super().close(timeout=CANCEL_TIMEOUT)


def _watch_idle_connections(engine: AsyncEngine, pre_ping: bool) -> None:
    """Throw away what is known to be closed, and ping what has lain idle for long.

    SQLAlchemy's own pre-ping asks before every use, which doubles the round trips.
    """

    def checkout(
        connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        driver = connection.driver_connection
        if driver.is_closed():
            raise sa_exc.DisconnectionError("closed while idle")
        now = time.monotonic()
        if pre_ping and now - record.info.get(IDLE_SINCE, now) > PING_AFTER_IDLE:
            _ping(driver)

    event.listen(engine.sync_engine, "checkout", checkout)


def _ping(driver: Any) -> None:
    try:
        # One trip. The dialect's own ping opens a transaction: four.
        await_only(driver.execute("SELECT 1", timeout=PING_TIMEOUT))
    except BaseException as error:
        # Or the pool says good-bye first, and waits two seconds for an answer.
        driver.terminate()
        if isinstance(error, Exception):
            raise sa_exc.DisconnectionError("lost while idle") from error
        raise


class Database:
    """One request's access to the database: any number of statements, one deadline over all.

    Args:
        engine: from ``create_engine``.
        seconds: how long all statements may take together, waiting for the pool included. The
            time between statements does not count, and that of concurrent ones counts once.
        share: whose connections the statements use (``persistence.pool.Shares``).

    Attributes:
        share: may be changed, once it is known who asks.
    """

    __slots__ = ("_engine", "_running", "_seconds_left", "_since", "_slots", "share")

    def __init__(self, engine: AsyncEngine, seconds: float, share: str = UNIDENTIFIED) -> None:
        self.share = share
        self._engine = engine
        self._seconds_left = seconds
        self._running = 0
        self._since = 0.0
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def read(self, wanted: Statement, /, **values: Any) -> Sequence[Record]:
        """Run a statement that changes nothing; a lost connection is replaced, and it runs again.

        Raises:
            Unavailable: the database did not answer within the deadline, or cannot.
        """
        return await self._within_deadline(wanted, values, repeatable=True)

    async def write(self, wanted: Statement, /, **values: Any) -> Sequence[Record]:
        """Run a statement that changes something, once.

        Only getting a connection is tried again: when one is lost after the statement was sent,
        nobody here knows whether it was carried out, so that is said and not repeated.

        Raises:
            Unavailable: the database did not answer within the deadline, or cannot.
        """
        return await self._within_deadline(wanted, values, repeatable=False)

    async def _within_deadline(
        self, wanted: Statement, values: Mapping[str, Any], *, repeatable: bool
    ) -> Sequence[Record]:
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
                    wanted, wanted.arguments(values), repeatable, progress
                )
        except Exception as error:
            cause = _driver_error(error)
            # While connecting, whatever goes wrong is not the statement's fault.
            is_theirs = server_at_fault(cause) or isinstance(cause, sa_exc.SQLAlchemyError)
            if is_theirs or progress.step == CONNECTING:
                raise Unavailable(f"database: {_told(cause, progress)}") from error
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._seconds_left -= time.monotonic() - self._since

    async def _with_fresh_connections(
        self, wanted: Statement, arguments: list[Any], repeatable: bool, progress: _Progress
    ) -> Sequence[Record]:
        give_up = time.monotonic() + RETRY_FOR
        pause = 0.02
        while True:
            connection = None
            try:
                async with in_turn(self._engine, self.share) as turn:
                    progress.step = CONNECTING
                    connection = await self._engine.raw_connection()
                    progress.step = "running the statement"
                    return await _run(connection, wanted, arguments, turn)
            except Exception as error:
                progress.failure = error
                may_repeat = (
                    _may_connect_later(error)
                    if connection is None
                    else repeatable and connection_lost(error)
                )
                if not may_repeat or time.monotonic() + pause > give_up:
                    raise
            # Jitter, so that the requests that lost their connections together don't return so.
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 0.5)


class _Progress:
    """How far a statement has come, for the log: a time-out says nothing by itself."""

    __slots__ = ("failure", "step")

    def __init__(self) -> None:
        self.step = "waiting for a connection"
        self.failure: Exception | None = None


_POOLER_IN_BETWEEN: Final = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)


def _told(error: BaseException, progress: _Progress) -> str:
    """What the driver or the server said, or else what was being done, and had failed before."""
    # One line: what PostgreSQL adds as DETAIL may be somebody's data.
    said = str(error).partition("\n")[0] or progress.step
    before = progress.failure and _driver_error(progress.failure)
    if isinstance(error, TimeoutError) and before and before is not error:
        said += f", after {_told(before, _Progress())}"
    if isinstance(error, _POOLER_IN_BETWEEN):
        said += " (behind a pooler in transaction mode, DATABASE_URL needs ?pgbouncer=true)"
    return f"{type(error).__name__}: {said}"


def _may_connect_later(error: Exception) -> bool:
    """Whether there may be a connection in a moment, a fresh one or one that comes back."""
    if isinstance(error, sa_exc.InvalidRequestError):
        return True  # Closed again and again before it was handed out.
    cause = _driver_error(error)
    return connection_lost(cause) or isinstance(cause, asyncpg.TooManyConnectionsError)


async def _run(
    connection: PoolProxiedConnection, wanted: Statement, arguments: list[Any], turn: Turn
) -> Sequence[Record]:
    driver = connection.driver_connection
    assert driver is not None
    try:
        records: Sequence[Record] = await fetch(
            connection, wanted.sql, arguments, typed=wanted.typed
        )
    except BaseException as error:
        if _is_reusable_after(error, driver):
            await greenlet_spawn(connection.close)
        else:
            _abandon(connection, driver, turn)
        raise
    await greenlet_spawn(connection.close)
    return records


def _is_reusable_after(error: BaseException, driver: Any) -> bool:
    """Whether the server answered, and will go on answering on this connection."""
    answered = isinstance(error, asyncpg.PostgresError)
    return answered and not connection_lost(error) and not driver.is_closed()


def _abandon(connection: PoolProxiedConnection, driver: Any, turn: Turn) -> None:
    """Give up a connection that is closed or busy, and what the server is doing on it.

    Closing cancels a running statement, which would otherwise go on, holding its locks and its
    place among the server's connections. Nobody waits for that: the request's time is up, and
    whoever cancelled it may do so again. Its turn ends when it is gone.
    """
    turn.keep()
    task = asyncio.create_task(_closed(connection, driver, turn))
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)


_abandoned: Final[set[asyncio.Task[None]]] = set()  # An event loop alone would lose them.


async def _closed(connection: PoolProxiedConnection, driver: Any, turn: Turn) -> None:
    try:
        with suppress(Exception):
            await driver.close()
        await greenlet_spawn(connection.invalidate)
    finally:
        turn.end()


def _driver_error(error: BaseException) -> BaseException:
    """What the driver said, beneath SQLAlchemy's and its adapter's wrappings."""
    while True:
        inner = getattr(error, "orig", None) or getattr(error, "driver_exception", None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
