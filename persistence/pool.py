"""The connection pool: first in, first out, with a bound for each viewer.

SQLAlchemy's own pool gives a returned connection to the next caller, ahead of those that wait.
Measured with 50 viewers on 25 connections: one waited for as long as the others kept sending.
Its way to a connection also costs 150 µs of CPU a statement, as much as all the rest of a request.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from persistence.connection import Connection, connect
from persistence.driver_errors import connection_lost
from persistence.slots import Slots
from persistence.urls import parse_database_url

PING_AFTER_IDLE: Final = 30.0
"""Seconds that a connection may be idle and still be used without a ping (one round trip)."""

LINGER: Final = 10.0
"""Seconds that a connection beyond the pool's size is idle before it is closed."""

MAX_WAITING_STATEMENTS: Final = 250
"""Statements of one viewer that may wait for a connection; twice the usual budget of a minute."""

MAX_WAITING_UNIDENTIFIED_STATEMENTS: Final = 5_000
"""Statements of requests without a viewer yet that may wait: the session look-ups of everybody."""

RECONNECT_SECONDS: Final = 0.1
"""Seconds between two attempts to connect to a server that is down or starts.

If each statement that waits tried by itself, 200 of them would start 500 processes a second on a
PostgreSQL that recovers, as each refusal is one.
"""

UNIDENTIFIED: Final = ""
"""The share of requests that are not authenticated yet."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The size of the pool, and its times in seconds.

    Attributes:
        size: connections that stay open.
        max_overflow: how many more may be open.
        timeout: how long a statement may wait for a connection.
        recycle: the age at which a connection is replaced; -1 means never.
        pre_ping: whether a connection is pinged after ``PING_AFTER_IDLE``.
    """

    size: int
    max_overflow: int
    timeout: float
    recycle: int
    pre_ping: bool


class PoolExhausted(Exception):
    """No connection became available in time, or too many statements wait already."""


class Pool:
    """A first-in, first-out connection pool. The connection used last is used next.

    A connection beyond the pool's size is closed when it was idle for ``LINGER`` and another one
    is returned. Closing it at once would cost more: measured with 20 viewers on 10 + 20
    connections, in three seconds several times as many were opened as the pool may have.

    No viewer uses more than half of the connections. So one whose statements take long, for
    example because all of them wait for one lock, leaves connections to others. Their further
    statements wait, first in, first out among themselves.

    Args:
        url: in any form that ``persistence.urls`` accepts. No connection is opened yet.

    Attributes:
        waits: statements that had to wait for a connection, so far.
        wait_seconds: the seconds that they waited.

    Raises:
        ValueError: the URL is invalid; the message says why.
    """

    def __init__(self, url: str, settings: PoolSettings) -> None:
        self._database = parse_database_url(url)
        self._settings = settings
        self._slots = Slots(self.most)
        self._share_size = max(1, self.most // 2)
        self._shares: dict[str, _Share] = {}
        self._idle: deque[Connection] = deque()
        self._leases = 0
        self._waiting = 0
        self._refusal: Exception | None = None
        self._reconnect_at = 0.0
        self.waits = 0
        self.wait_seconds = 0.0
        self._is_closed = False
        # References to running tasks; the event loop itself keeps only weak ones.
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    @property
    def shares(self) -> int:
        """The number of shares that use connections or wait for some."""
        return len(self._shares)

    @property
    def in_use(self) -> int:
        """The number of leases: connections in use, being opened or being closed."""
        return self._leases

    @property
    def waiting(self) -> int:
        """The number of statements that wait for a connection."""
        return self._waiting

    @property
    def most(self) -> int:
        """The most connections that may be open."""
        return self._settings.size + self._settings.max_overflow

    def lease_at_once(self, share: str) -> Lease | None:
        """The right to use one connection, unless it has to be waited for.

        Args:
            share: whose connections it counts among: a viewer's, or ``UNIDENTIFIED``.

        Raises:
            PoolExhausted: too many statements of this share wait already.
        """
        own = self._join(share)
        if self._acquire_at_once(own):
            return Lease(self, own)
        self._leave(own)
        return None

    async def lease(self, share: str, seconds: float) -> Lease:
        """Wait for the right to use one connection, in the order of arrival.

        Args:
            share: see ``lease_at_once``.
            seconds: how long to wait at most, if that is less than the pool's time-out.

        Raises:
            TimeoutError: none was free within these seconds.
            PoolExhausted: none was free within the pool's time-out, or too many statements of this
                share wait already.
        """
        own = self._join(share)
        try:
            if not self._acquire_at_once(own):
                await self._wait(own, seconds)
        except BaseException:
            self._leave(own)
            raise
        return Lease(self, own)

    def has_room(self, share: str) -> bool:
        """Whether a statement of this share would have a connection at once."""
        own = self._shares.get(share)
        return self._slots.are_free and (own is None or own.are_free)

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when they are returned."""
        self._is_closed = True
        for connection in self._idle:
            self._in_background(connection.close())
        self._idle.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _acquire_at_once(self, share: _Share) -> bool:
        if not share.acquire_at_once():
            return False
        if not self._slots.acquire_at_once():
            share.release()
            return False
        return True

    async def _wait(self, share: _Share, seconds: float) -> None:
        began = time.monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(min(seconds, self._settings.timeout)):
                # The share's first, so that a statement that waits for it holds no slot of others.
                await share.acquire()
                try:
                    await self._slots.acquire()
                except BaseException:
                    share.release()
                    raise
        except TimeoutError:
            if seconds < self._settings.timeout:
                raise
            raise PoolExhausted(f"no connection within {self._settings.timeout:g} s") from None
        finally:
            self._waiting -= 1
            self.waits += 1
            self.wait_seconds += time.monotonic() - began

    def _join(self, name: str) -> _Share:
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share(name, self._share_size)
        max_waiting = (
            MAX_WAITING_UNIDENTIFIED_STATEMENTS if name == UNIDENTIFIED else MAX_WAITING_STATEMENTS
        )
        if share.users >= self._share_size + max_waiting:
            raise PoolExhausted(
                f"{max_waiting} statements of one share wait for a connection already"
            )
        share.users += 1
        return share

    def _leave(self, share: _Share) -> None:
        share.users -= 1
        if not share.users:
            del self._shares[share.name]

    def _release(self, share: _Share) -> None:
        self._leases -= 1
        self._slots.release()
        share.release()
        self._leave(share)

    async def _open(self) -> Connection:
        """Open a connection; fail at once while the server is known to refuse them."""
        if self._refusal:
            now = time.monotonic()
            if now < self._reconnect_at:
                raise copy.copy(self._refusal)
            self._reconnect_at = now + RECONNECT_SECONDS
        try:
            connection = await connect(self._database)
            if connection.is_closed():
                raise ConnectionResetError("the connection was lost as soon as it was made")
        except Exception as error:
            if connection_lost(error):
                # Without its traceback, which holds the frames of the request.
                self._refusal = copy.copy(error)
                self._reconnect_at = time.monotonic() + RECONNECT_SECONDS
            raise
        self._refusal = None
        return connection

    def _take_idle(self) -> Connection | None:
        """The connection used last, unless it is closed or needs a check or a replacement."""
        if not self._idle:
            return None
        connection = self._idle[-1]
        now = time.monotonic()
        is_usable = not (
            connection.is_closed()
            or (self._settings.pre_ping and now - connection.idle_since > PING_AFTER_IDLE)
            or self._is_too_old(connection, now)
        )
        return self._idle.pop() if is_usable else None

    def _is_too_old(self, connection: Connection, now: float) -> bool:
        return 0 <= self._settings.recycle < now - connection.opened_at

    def _close_excess(self, now: float) -> None:
        """Close connections beyond the size that are idle for long, unless a statement waits."""
        while (
            len(self._idle) > self._settings.size
            and self._idle[0].idle_since < now - LINGER
            and not self._slots.locked()
        ):
            self._in_background(self._close_in_slot(self._idle.popleft()))

    async def _close_in_slot(self, connection: Connection) -> None:
        # In a slot of its own, because the server counts the connection until it is closed.
        async with self._slots:
            await connection.close()

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Share(Slots):
    """One share's slots, and the number of statements that hold one or wait for one."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(size)
        self.name = name
        self.users = 0


class Lease:
    """The right to have one connection open; end it with ``give_back`` or ``discard``."""

    __slots__ = ("_pool", "_share", "connection")

    def __init__(self, pool: Pool, share: _Share) -> None:
        self._pool = pool
        self._share = share
        pool._leases += 1
        self.connection = pool._take_idle()

    async def connect(self) -> Connection:
        """Take an idle connection that still works, or open one.

        Raises:
            TimeoutError: the server did not answer in time.
            OSError: it cannot be reached, or could not be a moment ago.
            asyncpg.PostgresError: it refuses us.
        """
        pool = self._pool
        while pool._idle and self.connection is None:
            connection = pool._idle.pop()
            if connection.is_closed():
                continue
            if pool._is_too_old(connection, time.monotonic()):
                pool._in_background(connection.close())
            elif await connection.ping():
                self.connection = connection
            else:
                # The others may be lost as well, and each ping without a reply takes long.
                break
        if self.connection is None:
            self.connection = await pool._open()
        return self.connection

    def give_back(self) -> None:
        """End the lease; the connection, if there is one, waits for its next use."""
        pool, connection = self._pool, self.connection
        pool._release(self._share)
        if connection is None:
            return
        if pool._is_closed:
            pool._in_background(connection.close())
        elif not connection.is_closed():
            connection.idle_since = now = time.monotonic()
            pool._idle.append(connection)
            pool._close_excess(now)

    def discard(self) -> None:
        """Close a connection that is lost or busy, and cancel the statement that runs on it.

        Without that the statement would go on, and hold its locks and one of the server's
        connections. It happens in the background, because the request's time is up and its task
        may be cancelled again. The lease ends when the connection is closed.
        """
        self._pool._in_background(self._close())

    async def _close(self) -> None:
        try:
            if self.connection is not None:
                await self.connection.close()
        finally:
            self._pool._release(self._share)
