"""One request's access to the database: one round trip a statement, one deadline a request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg

from persistence.connection import Connection
from persistence.driver_errors import connection_lost, server_at_fault
from persistence.errors import Unavailable
from persistence.pool import UNIDENTIFIED, Lease, Pool
from persistence.slots import Slots
from persistence.sql import Record, Statement
from persistence.usage import Usage

WAITING: Final = "waiting for a connection"
"""The step in which a statement waits until it may have a connection."""

CONNECTING: Final = "connecting"
"""The step in which a connection is opened, or one that was idle for long is checked."""

RUNNING: Final = "running the statement"
"""The step in which the statement was sent, or may have been."""

MAX_CONCURRENT: Final = 4
"""Statements that one request runs at once; the time of waiting counts towards its deadline."""

RETRY_FOR: Final = 8.0
"""Seconds for which a lost connection is replaced, for a restart or a short crash of PostgreSQL.

Below the usual deadline, so that the log contains the reason instead of a time-out.
"""


class SessionCheck(Protocol):
    """The look-up of a session that waits for a read to be joined to (``sessions.checks``)."""

    @property
    def is_confirmed(self) -> bool:
        """Whether a read has found the session."""
        ...

    def fail(self) -> Exception:
        """Mark the check as failed, and return the error to raise."""
        ...

    def join(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> tuple[Statement, Mapping[str, Any]]:
        """The statement and its values, with the look-up."""
        ...

    def confirm(self, records: Sequence[Record]) -> Sequence[Record]:
        """The statement's own records, after the check of the session in them."""
        ...


class Database:
    """One request's access to the database: any number of statements, one deadline over all.

    Args:
        pool: where the connections come from.
        seconds: how long all statements may take together, including the wait for a connection.
            The time between statements does not count; concurrent statements count once.
        share: the share that the connections belong to (``persistence.pool.Pool``).
        schema: of our tables; ``None`` for the one that the connections find by themselves.
        usage: where the time and the trips are added to.

    Attributes:
        share: may be changed when the request is authenticated.
        session_check: of a session that the first read has to confirm. Until then nothing is
            written.
        on_write: is called with the share after each write.
        losses: how many connections were lost while a statement ran.
        outage: why the last statement that the server is at fault for failed.
    """

    __slots__ = (
        "_pool",
        "_running",
        "_seconds_left",
        "_since",
        "_slots",
        "losses",
        "on_write",
        "outage",
        "schema",
        "session_check",
        "share",
        "usage",
    )

    def __init__(
        self,
        pool: Pool,
        seconds: float,
        share: str = UNIDENTIFIED,
        schema: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.usage = Usage() if usage is None else usage
        self.share = share
        self.schema = schema
        self.session_check: SessionCheck | None = None
        self.losses = 0
        self.outage: Unavailable | None = None
        self.on_write: Callable[[str], None] | None = None
        self._pool = pool
        self._seconds_left = seconds
        self._running = 0
        self._since = 0.0
        self._slots = Slots(MAX_CONCURRENT)

    async def read(self, statement: Statement, /, **values: Any) -> Sequence[Record]:
        """Run a statement that changes nothing. If the connection is lost, run it on another one.

        Raises:
            Unavailable: the database did not answer within the deadline, or failed.
            SessionUnconfirmed: ``session_check`` did not find its session.
        """
        statement = statement.in_schema(self.schema)
        session_check = self.session_check
        if session_check is None or session_check.is_confirmed:
            return await self._run(statement, values, repeatable=True)
        joined, joined_values = session_check.join(statement, values)
        return session_check.confirm(await self._run(joined, joined_values, repeatable=True))

    async def write(
        self, statement: Statement, /, *, is_repeatable: bool = False, **values: Any
    ) -> Sequence[Record]:
        """Run a statement that changes something.

        Only connecting is repeated. If the connection is lost after the statement was sent, it is
        unknown whether the statement was executed, so the error is reported.

        Args:
            is_repeatable: the statement itself prevents a second effect, so it is sent again.

        Raises:
            Unavailable: the database did not answer within the deadline, or failed.
        """
        assert self.session_check is None
        statement = statement.in_schema(self.schema)
        records = await self._run(statement, values, repeatable=is_repeatable)
        if self.on_write is not None:
            self.on_write(self.share)
        return records

    def has_room(self, share: str) -> bool:
        """Whether a statement of this share would have a connection at once."""
        return self._pool.has_room(share)

    async def pause(self, seconds: float) -> None:
        """Wait between two statements; the time counts towards the deadline."""
        await asyncio.sleep(seconds)
        self._seconds_left -= seconds

    async def wait(self, task: asyncio.Task[Any]) -> None:
        """Wait until a task with statements of another request is done; never cancel it.

        The time counts towards the deadline. No statement of this request may run meanwhile.

        Raises:
            Unavailable: the deadline has passed.
        """
        since = time.monotonic()
        await asyncio.wait({task}, timeout=self._seconds_left)
        self._seconds_left -= time.monotonic() - since
        if not task.done():
            raise Unavailable("database: TimeoutError: waiting for another request's statements")

    async def _run(
        self, statement: Statement, values: Mapping[str, Any], *, repeatable: bool
    ) -> Sequence[Record]:
        arguments = [values[name] for name in statement.parameters]
        if not self._running:
            self._since = time.monotonic()
        self._running += 1
        deadline = self._since + self._seconds_left
        attempt = _Attempt(self._pool, self.share, deadline, self.usage, statement.sql)
        try:
            # No time-out: the statements that hold these slots have the same deadline.
            if not self._slots.acquire_at_once():
                await self._slots.acquire()
            try:
                return await self._repeat(attempt, statement, arguments, repeatable=repeatable)
            finally:
                self._slots.release()
        except Exception as error:
            # An error while connecting is never the statement's fault.
            if attempt.step != RUNNING or server_at_fault(error):
                self.outage = Unavailable(f"database: {attempt.reason(error)}")
                raise self.outage from error
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._seconds_left -= time.monotonic() - self._since

    async def _repeat(
        self,
        attempt: _Attempt,
        statement: Statement,
        arguments: Sequence[Any],
        *,
        repeatable: bool,
    ) -> Sequence[Record]:
        while True:
            try:
                seconds = attempt.seconds_left()
                connection = attempt.take()
                if connection is None:
                    connection, seconds = await attempt.wait(seconds)
                with attempt:
                    return await connection.run(statement, arguments, seconds)
            except Exception as error:
                self.losses += attempt.step == RUNNING and connection_lost(error)
                if not attempt.may_be_repeated(error, repeatable):
                    raise
            await attempt.pause()


class _Attempt:
    """The attempts to run one statement: the current step, and the last failure, for the log.

    Each one takes a connection of the pool, or waits for it; a ``with`` block returns it.
    """

    __slots__ = (
        "_deadline",
        "_failure",
        "_give_up_at",
        "_lease",
        "_leased_at",
        "_pause",
        "_pool",
        "_share",
        "_sql",
        "_usage",
        "step",
    )

    def __init__(self, pool: Pool, share: str, deadline: float, usage: Usage, sql: str) -> None:
        self._usage = usage
        self._sql = sql
        self._leased_at = 0.0
        self._pool = pool
        self._share = share
        self._deadline = deadline
        self._give_up_at = time.monotonic() + RETRY_FOR
        self._pause = 0.02
        self._failure: Exception | None = None
        self._lease: Lease | None = None
        self.step = WAITING

    def take(self) -> Connection | None:
        """An idle connection; ``None`` if one has to be waited for, or opened."""
        self.step = WAITING
        lease = self._lease = self._pool.lease_at_once(self._share)
        self._leased_at = time.monotonic()
        if lease is None or lease.connection is None:
            return None
        self.step = RUNNING
        return lease.connection

    async def wait(self, seconds: float) -> tuple[Connection, float]:
        """A connection, after ``take`` had none, and the time that is left then."""
        lease = self._lease
        if lease is None:
            began = self._leased_at
            try:
                lease = self._lease = await self._pool.lease(self._share, seconds)
            finally:
                self._leased_at = time.monotonic()
                self._usage.add_wait(began, self._leased_at)
        try:
            connection = lease.connection
            if connection is None:
                self.step = CONNECTING
                async with asyncio.timeout(self.seconds_left()):
                    connection = await lease.connect()
            seconds = self.seconds_left()
        except BaseException:
            lease.give_back()
            self._add_usage()
            raise
        self.step = RUNNING
        return connection, seconds

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        assert self._lease is not None
        self._add_usage()
        if error is None or _is_reusable_after(error):
            self._lease.give_back()
        else:
            self._lease.discard()

    def _add_usage(self) -> None:
        self._usage.add_statement(self._sql, self._leased_at, time.monotonic())

    def seconds_left(self) -> float:
        """The time until the deadline.

        Raises:
            TimeoutError: there is none.
        """
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("none of the deadline is left")
        return seconds

    def may_be_repeated(self, error: Exception, repeatable: bool) -> bool:
        """Whether another attempt may succeed, can do no harm, and has time left."""
        self._failure, before = error, self._failure
        if self.step == RUNNING:
            is_possible = repeatable and connection_lost(error)
        else:
            is_possible = connection_lost(error) or isinstance(
                error, asyncpg.TooManyConnectionsError
            )
        if is_possible and time.monotonic() + self._pause <= self._give_up_at:
            return True
        self._failure = before
        return False

    async def pause(self) -> None:
        """Wait. With jitter, because many requests lose their connections at the same moment."""
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))
        self._pause = min(self._pause * 2, 0.5)

    def reason(self, error: Exception) -> str:
        """The message of the driver or the server, or the step: a time-out has no text."""
        kind = type(error).__name__
        if isinstance(error, TimeoutError) and (before := self._failure):
            text = f"{kind}: {self.step}, after {type(before).__name__}: {_message(before)}"
        else:
            text = f"{kind}: {_message(error) or self.step}"
        if isinstance(error, _POOLER_ERRORS):
            text += " (behind a pooler in transaction mode, DATABASE_URL needs ?pgbouncer=true)"
        return text


_POOLER_ERRORS: Final = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)


def _message(error: Exception) -> str:
    # One line, because the DETAIL that PostgreSQL adds may contain a viewer's data.
    return str(error).partition("\n")[0]


def _is_reusable_after(error: BaseException) -> bool:
    """Whether the error came from the server, on a connection that still works."""
    return isinstance(error, asyncpg.PostgresError) and not connection_lost(error)
