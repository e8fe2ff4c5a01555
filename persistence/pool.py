"""Connections for as many at a time as there may be; whoever asked first is served first."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.util import greenlet_spawn

IDLE_SINCE: Final = "idle since"
"""Under this a connection's ``info`` has the monotonic time at which it came back, in seconds."""

LINGER: Final = 10.0
"""Seconds that a connection beyond the pool's size lies idle before it is closed."""


MAX_WAITING: Final = 250
"""Statements of one person that may wait for a connection; a minute's usual budget fits twice."""

MAX_WAITING_UNIDENTIFIED: Final = 5_000
"""Statements of requests whose sender is not known yet that may wait: everybody's look-ups."""

UNIDENTIFIED: Final = ""
"""The share of requests whose sender is not known yet."""


class FairPool(Pool):
    """Idle connections, the one used last on top; whoever finds none opens one, in their turn.

    SQLAlchemy's own pool gives a connection that comes back to whoever asks next: who waits is
    woken, finds nothing and waits on. Of 50 people on 25 connections one waited for as long as
    the others went on. And it closes what is over its size the moment that it comes back: 20
    people on 10 + 20 connections opened as many in three seconds as they had, several times over.

    Args:
        creator: opens a connection.
        pool_size: how many connections are kept.
        max_overflow: how many more there may be; these are closed after ``LINGER``, when next one
            comes back.
        timeout: seconds to wait for one's turn.
        options: of ``sqlalchemy.pool.Pool``.
    """

    _is_asyncio = True

    def __init__(
        self, creator: Any, pool_size: int, max_overflow: int, timeout: float, **options: Any
    ) -> None:
        super().__init__(creator, **options)
        self.turns = asyncio.Semaphore(pool_size + max_overflow)
        self.shares = Shares(max(1, (pool_size + max_overflow) // 2))
        self.timeout = timeout
        self._size = pool_size
        self._max_overflow = max_overflow
        self._idle: deque[ConnectionPoolEntry] = deque()
        self._in_use = 0
        self._leaving: set[asyncio.Task[None]] = set()  # An event loop alone would lose them.

    def checkedin(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    def checkedout(self) -> int:
        """How many connections are in use."""
        return self._in_use

    def status(self) -> str:
        """How the pool is, in words."""
        return f"{self.checkedout()} connections in use, {self.checkedin()} idle"

    def dispose(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def recreate(self) -> FairPool:
        """An empty pool like this one."""
        return FairPool(
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
        # One that was closed is worth nothing: whoever comes next had to open it anew.
        if record.dbapi_connection is not None:
            record.info[IDLE_SINCE] = now = time.monotonic()
            self._idle.append(record)
            self._let_go(now - LINGER)

    def _let_go(self, since: float) -> None:
        """Close what is over the size and has been idle since then. Nobody waits for it."""
        while len(self._idle) > self._size and self._idle[0].info[IDLE_SINCE] < since:
            if self.turns.locked():
                return
            task = asyncio.get_running_loop().create_task(self._close(self._idle.popleft()))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _close(self, record: ConnectionPoolEntry) -> None:
        # In a turn of its own, until it is gone: the server counts it until then.
        async with self.turns:
            await greenlet_spawn(record.close)


class ShareExhausted(exc.SQLAlchemyError):
    """Too many statements of one person wait for a connection already."""


class Shares:
    """How many of the connections each share has: a person, or all who are not identified yet.

    No share has more than ``size`` of them, so that one person whose statements take long, all
    waiting for one lock for example, leaves connections to everybody else. What is over waits,
    first in, first out among its own share.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._shares: dict[str, _Share] = {}

    def __len__(self) -> int:
        """How many shares are in use."""
        return len(self._shares)

    def join(self, name: str) -> _Share:
        """The share of this name, to be left again with ``leave``.

        Raises:
            ShareExhausted: too many statements wait for it already.
        """
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share(name, self._size)
        most = MAX_WAITING_UNIDENTIFIED if name == UNIDENTIFIED else MAX_WAITING
        if share.users >= self._size + most:
            raise ShareExhausted(f"{most} statements of one share wait for a connection already")
        share.users += 1
        return share

    def leave(self, share: _Share) -> None:
        """Forget a share that nobody uses any more."""
        share.users -= 1
        if not share.users:
            del self._shares[share.name]


class _Share:
    """One share's connections, and how many statements have one or wait for one."""

    __slots__ = ("name", "turns", "users")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.turns = asyncio.Semaphore(size)
        self.users = 0


class Turn:
    """The right to have one connection open."""

    __slots__ = ("_pool", "_share", "kept")

    def __init__(self, pool: FairPool, share: _Share) -> None:
        self._pool = pool
        self._share = share
        self.kept = False

    def keep(self) -> None:
        """Keep it after the block; ``end`` gives it back."""
        self.kept = True

    def end(self) -> None:
        """Give it back."""
        self._pool.turns.release()
        self._share.turns.release()
        self._pool.shares.leave(self._share)


@asynccontextmanager
async def in_turn(engine: AsyncEngine, share: str = UNIDENTIFIED) -> AsyncIterator[Turn]:
    """Acquire the right to a connection in arrival order; release it on exit unless it is kept.

    Args:
        share: whose connection it is; see ``Shares``.

    Raises:
        sqlalchemy.exc.TimeoutError: it took longer than the pool's time-out.
        ShareExhausted: too many statements of this share wait already.
    """
    pool = engine.pool
    assert isinstance(pool, FairPool)
    turn = await _acquire(pool, share)
    try:
        yield turn
    finally:
        if not turn.kept:
            turn.end()


async def _acquire(pool: FairPool, name: str) -> Turn:
    share = pool.shares.join(name)
    try:
        if share.turns.locked() or pool.turns.locked():
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
    return Turn(pool, share)


async def _acquire_both(pool: FairPool, share: _Share) -> None:
    # The share's first: who waits for it must not keep others from the pool.
    await share.turns.acquire()
    try:
        await pool.turns.acquire()
    except BaseException:
        share.turns.release()
        raise
