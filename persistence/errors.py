"""What can go wrong beneath the doors, as facts. Knows no HTTP and no GraphQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from asyncpg import exceptions as pg


class Fact(Exception):
    """The base of everything a door is expected to answer by itself."""


class NotFound(Fact):
    """The viewer has no such thing; someone else's thing counts as none.

    Args:
        kind: what was looked for, capitalised as in a sentence: ``"Task"``.
        identifier: the identifier as the client wrote it.
    """

    def __init__(self, kind: str, identifier: int | str) -> None:
        self.kind = kind
        self.identifier = identifier
        super().__init__(f"{kind} with ID {identifier} not found")


class Changed(Fact):
    """The row is there, but at another version than the client named."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"The task is at version {version}")


class Unavailable(Fact):
    """A server we depend on did not do its part in time; nothing is known to be stored.

    Args:
        reason: for the log only, never for the client.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an input.

    ``field`` is a dotted path in the door's spelling (``""``: the whole input), ``code`` is
    pydantic's error type or one of ours, ``value`` the offending input as JSON can carry it.
    """

    field: str
    message: str
    code: str
    value: Any = None


class Invalid(Fact):
    """The input breaks the rules of ``persistence.task_inputs``; nothing was done with it."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


# What PostgreSQL says of a statement that is wrong, or of values that should have been refused
# before they came to it: data (22), constraints (23), syntax (42). Everything else is the
# server's doing, whatever it is called; there are more codes than anybody knows beforehand.
_STATEMENT_AT_FAULT: Final = (
    pg.DataError,
    pg.IntegrityConstraintViolationError,
    pg.SyntaxOrAccessError,
)

# But also in these classes: numbers that ran out, rights that are denied, what was not migrated,
# and what a pooler in between did not keep.
_SERVER_AT_FAULT: Final = (
    pg.SequenceGeneratorLimitExceededError,
    pg.InsufficientPrivilegeError,
    pg.UndefinedTableError,
    pg.UndefinedColumnError,
    pg.UndefinedFunctionError,
    pg.UndefinedObjectError,
    pg.DuplicatePreparedStatementError,
)

# A connection that is gone, seen from our side: the socket's own failures come as they are.
_CONNECTION_LOST: Final = (
    OSError,
    asyncio.IncompleteReadError,
    asyncpg.InternalClientError,
    pg.PostgresConnectionError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.CannotConnectNowError,
    pg.IdleSessionTimeoutError,
)


def connection_lost(error: BaseException) -> bool:
    """Whether a fresh connection might do better.

    A time-out does not count: it is an ``OSError`` since Python 3.11, and the time it took is
    the request's own, so trying again can only make the client wait longer.
    """
    if isinstance(error, asyncpg.InterfaceError):
        # In one word for two things: that the connection is closed, and that we misused it.
        return "closed" in str(error)
    return isinstance(error, _CONNECTION_LOST) and not isinstance(error, TimeoutError)


def server_at_fault(error: BaseException) -> bool:
    """Whether the failure is the database's doing rather than a defect of ours."""
    if isinstance(error, asyncpg.PostgresError):
        is_ours = isinstance(error, _STATEMENT_AT_FAULT)
        return not is_ours or isinstance(error, _SERVER_AT_FAULT)
    return connection_lost(error) or isinstance(error, TimeoutError)
