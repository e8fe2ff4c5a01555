"""The connection pool: first in, first out, with a bound for each viewer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection
from sqlalchemy.util import await_only, greenlet_spawn

from persistence.pgbouncer import cache_descriptions
from persistence.urls import parse_database_url

COMMAND_TIMEOUT: Final = 10.0
"""Seconds that one statement, or one attempt to connect, may take."""

PING_AFTER_IDLE: Final = 30.0
"""Seconds that a connection may be idle and still be used without a ping (one round trip)."""

PING_TIMEOUT: Final = 2.0
"""Seconds after which an unanswered ping means that the connection is lost."""

CANCEL_TIMEOUT: Final = 0.5
"""Seconds for asking the server to cancel a statement whose connection is closed."""

IDLE_SINCE: Final = "idle since"
"""The key in a connection's ``info`` for the monotonic time, in seconds, of its return."""

LINGER: Final = 10.0
"""Seconds that a connection beyond the pool's size is idle before it is closed."""


MAX_WAITING: Final = 250
"""Statements of one viewer that may wait for a connection; twice the usual budget of a minute."""

MAX_WAITING_UNIDENTIFIED: Final = 5_000
"""Statements of requests without a viewer yet that may wait: the session look-ups of everybody."""

UNIDENTIFIED: Final = ""
"""The share of requests that are not authenticated yet."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The size of the pool, and its times in seconds.

    Attributes:
        size: connections that stay open.
        max_overflow: how many more may be open.
        timeout: how long a statement may wait for a connection.
        recycle: the age at which a connection is replaced.
        pre_ping: whether a connection is pinged after ``PING_AFTER_IDLE``.
    """

    size: int
    max_overflow: int
    timeout: float
    recycle: int
    pre_ping: bool


def create_engine(url: str, pool: PoolSettings) -> AsyncEngine:
    """Make the engine for a URL in any form that ``persistence.urls`` accepts.

    Opens no connection yet.

    Raises:
        ValueError: the URL is invalid; the message says why.
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
        poolclass=FifoPool,
        pool_size=pool.size,
        max_overflow=pool.max_overflow,
        pool_timeout=pool.timeout,
        pool_recycle=pool.recycle,
    )
    _check_idle_connections(engine, pool.pre_ping)
    if target.pooled:
        cache_descriptions(engine)
    return engine


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """asyncpg's connection, except that closing gives up after ``CANCEL_TIMEOUT``."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncpg's
        """Cancel the running statement and close the connection, within ``CANCEL_TIMEOUT``."""
        with suppress(TimeoutError, OSError):
            await super().close(timeout=CANCEL_TIMEOUT)


def _check_idle_connections(engine: AsyncEngine, pre_ping: bool) -> None:
    """Discard connections that are closed, and ping those that were idle for long.

    SQLAlchemy's own pre-ping runs before every use, which doubles the round trips.
    """

    def checkout(
        connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        driver = connection.driver_connection
        if driver.is_closed():
            raise exc.DisconnectionError("closed while idle")
        now = time.monotonic()
        if pre_ping and now - record.info.get(IDLE_SINCE, now) > PING_AFTER_IDLE:
            _ping(driver)

    event.listen(engine.sync_engine, "checkout", checkout)


def _ping(driver: Any) -> None:
    try:
        # One round trip. The dialect's own ping opens a transaction: four.
        await_only(driver.execute("SELECT 1", timeout=PING_TIMEOUT))
    except BaseException as error:
        # Otherwise the pool closes it in an orderly way, which waits two seconds for a reply.
        driver.terminate()
        if isinstance(error, Exception):
            raise exc.DisconnectionError("lost while idle") from error
        raise


class FifoPool(Pool):
    """A first-in, first-out connection pool. The connection used last is used next.

    SQLAlchemy's own pool gives a returned connection to the next caller, ahead of those that wait.
    Measured with 50 viewers on 25 connections: one waited for as long as the others kept sending.
    It also closes connections beyond its size as soon as they are returned. Measured with 20
    viewers on 10 + 20 connections: in three seconds it opened several times as many as it had.

    Args:
        creator: opens a connection.
        pool_size: connections that stay open.
        max_overflow: how many more may be open. A connection beyond the size is closed when it was
            idle for ``LINGER`` and another one is returned.
        timeout: seconds to wait for a slot.
        options: options of ``sqlalchemy.pool.Pool``.
    """

    _is_asyncio = True

    def __init__(
        self, creator: Any, pool_size: int, max_overflow: int, timeout: float, **options: Any
    ) -> None:
        super().__init__(creator, **options)
        self.slots = asyncio.Semaphore(pool_size + max_overflow)
        self.shares = Shares(max(1, (pool_size + max_overflow) // 2))
        self.timeout = timeout
        self._size = pool_size
        self._max_overflow = max_overflow
        self._idle: deque[ConnectionPoolEntry] = deque()
        self._in_use = 0
        # References to running tasks; the event loop itself keeps only weak ones.
        self._closing: set[asyncio.Task[None]] = set()

    def checkedin(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    def checkedout(self) -> int:
        """The number of connections in use."""
        return self._in_use

    def status(self) -> str:
        """The state of the pool, for SQLAlchemy's log."""
        return f"{self.checkedout()} connections in use, {self.checkedin()} idle"

    def dispose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def recreate(self) -> FifoPool:
        """An empty pool with the same settings."""
        return FifoPool(
            self._creator,
            pool_size=self._size,
            max_overflow=self._max_overflow,
            timeout=self.timeout,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            dialect=self._dialect,
            _dispatch=self.dispatch,
        )

    def _do_get(self) -> ConnectionPoolEntry:
        record = self._idle.pop() if self._idle else self._create_connection()
        self._in_use += 1
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._in_use -= 1
        # A closed connection is not stored: its next user would have to open it anew.
        if record.dbapi_connection is not None:
            record.info[IDLE_SINCE] = now = time.monotonic()
            self._idle.append(record)
            self._close_excess(now - LINGER)

    def _close_excess(self, idle_since: float) -> None:
        """Close connections beyond the size that are idle since then, unless a statement waits."""
        while len(self._idle) > self._size and self._idle[0].info[IDLE_SINCE] < idle_since:
            if self.slots.locked():
                return
            task = asyncio.get_running_loop().create_task(self._close(self._idle.popleft()))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, record: ConnectionPoolEntry) -> None:
        # In a slot of its own, because the server counts the connection until it is closed.
        async with self.slots:
            await greenlet_spawn(record.close)


class ShareExhausted(exc.SQLAlchemyError):
    """Too many statements of one share already wait for a connection."""


class Shares:
    """The connections that each share may use: one share a viewer, one for all unauthenticated.

    No share uses more than ``size`` connections. So one viewer whose statements take long, for
    example because all of them wait for one lock, leaves connections to others. Further statements
    of the share wait, first in, first out among themselves.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._shares: dict[str, _Share] = {}

    def __len__(self) -> int:
        """The number of shares in use."""
        return len(self._shares)

    def join(self, name: str) -> _Share:
        """The share of this name; call ``leave`` afterwards.

        Raises:
            ShareExhausted: too many statements of the share wait already.
        """
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share(name, self._size)
        max_waiting = MAX_WAITING_UNIDENTIFIED if name == UNIDENTIFIED else MAX_WAITING
        if share.users >= self._size + max_waiting:
            raise ShareExhausted(
                f"{max_waiting} statements of one share wait for a connection already"
            )
        share.users += 1
        return share

    def leave(self, share: _Share) -> None:
        """Remove a share that has no users left."""
        share.users -= 1
        if not share.users:
            del self._shares[share.name]


class _Share:
    """One share's slots, and the number of statements that hold one or wait for one."""

    __slots__ = ("name", "slots", "users")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.slots = asyncio.Semaphore(size)
        self.users = 0


class Slot:
    """The right to have one connection open."""

    __slots__ = ("_pool", "_share", "is_kept")

    def __init__(self, pool: FifoPool, share: _Share) -> None:
        self._pool = pool
        self._share = share
        self.is_kept = False

    def keep(self) -> None:
        """Keep the slot after the block; call ``end`` to release it."""
        self.is_kept = True

    def end(self) -> None:
        """Release the slot."""
        self._pool.slots.release()
        self._share.slots.release()
        self._pool.shares.leave(self._share)


@asynccontextmanager
async def acquire_slot(engine: AsyncEngine, share: str = UNIDENTIFIED) -> AsyncIterator[Slot]:
    """Acquire a connection slot in arrival order; release it on exit unless it is kept.

    Args:
        share: the share that the connection belongs to; see ``Shares``.

    Raises:
        sqlalchemy.exc.TimeoutError: no slot was free within the pool's time-out.
        ShareExhausted: too many statements of this share wait already.
    """
    pool = engine.pool
    assert isinstance(pool, FifoPool)
    slot = await _acquire(pool, share)
    try:
        yield slot
    finally:
        if not slot.is_kept:
            slot.end()


async def _acquire(pool: FifoPool, name: str) -> Slot:
    share = pool.shares.join(name)
    try:
        if share.slots.locked() or pool.slots.locked():
            try:
                async with asyncio.timeout(pool.timeout):
                    await _acquire_both(pool, share)
            except TimeoutError:
                raise exc.TimeoutError(f"no connection within {pool.timeout:g} s") from None
        else:
            await _acquire_both(pool, share)
    except BaseException:
        pool.shares.leave(share)
        raise
    return Slot(pool, share)


async def _acquire_both(pool: FifoPool, share: _Share) -> None:
    # The share's first, so that a statement that waits for it holds no slot of the pool.
    await share.slots.acquire()
    try:
        await pool.slots.acquire()
    except BaseException:
        share.slots.release()
        raise
