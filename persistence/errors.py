"""The expected errors of persistence, and what a driver's error means. Knows no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from asyncpg import exceptions as pg


class ExpectedError(Exception):
    """The base class of every error that has its own answer in the catalogue."""


class NotFound(ExpectedError):
    """The viewer has no such row. Another person's row counts as none.

    Args:
        kind: the noun, capitalised as at the start of a sentence: ``"Task"``.
        identifier: the identifier as the client wrote it.
    """

    def __init__(self, kind: str, identifier: int | str) -> None:
        self.kind = kind
        self.identifier = identifier
        super().__init__(f"{kind} with ID {identifier} not found")


class VersionConflict(ExpectedError):
    """The row exists, but not at a version that the client named.

    Args:
        kind: the noun, capitalised as at the start of a sentence: ``"Task"``.
        version: the row's current version, 1 or more.
    """

    def __init__(self, kind: str, version: int) -> None:
        self.kind = kind
        self.version = version
        super().__init__(f"The {kind[:1].lower()}{kind[1:]} is at version {version}")


class SessionUnconfirmed(Exception):
    """A session that was valid before was not found with the read that should confirm it."""


class Unavailable(ExpectedError):
    """A server that we depend on did not answer in time. Whether it stored anything is unknown.

    Args:
        reason: for the log only, never for the client.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error of an input.

    Attributes:
        field: a dotted path in the client's spelling; ``""`` means the whole input.
        message: one sentence for a person.
        code: pydantic's error type, or one of ours.
        value: the rejected value, as JSON can carry it.
    """

    field: str
    message: str
    code: str
    value: Any = None


class InvalidInput(ExpectedError):
    """The input breaks a rule of validation; nothing was done with it.

    Args:
        errors: every error of the input, at most ``persistence.validation.MAX_ERRORS``.
    """

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


# A defect of our statement, or of a value that validation should have rejected: data (22),
# constraints (23), syntax (42). Every other code is the server's failure.
_STATEMENT_AT_FAULT: Final = (
    pg.DataError,
    pg.IntegrityConstraintViolationError,
    pg.SyntaxOrAccessError,
)

# Exceptions in these classes that are the server's failure all the same: exhausted ids, missing
# rights, a schema that was not migrated, a prepared statement that a pooler lost.
_SERVER_AT_FAULT: Final = (
    pg.SequenceGeneratorLimitExceededError,
    pg.InsufficientPrivilegeError,
    pg.UndefinedTableError,
    pg.UndefinedColumnError,
    pg.UndefinedFunctionError,
    pg.UndefinedObjectError,
    pg.DuplicatePreparedStatementError,
)

# A lost connection. The socket's own exceptions reach us unchanged.
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

    A time-out does not count, although it is an ``OSError`` since Python 3.11: it has used up the
    request's own time, so a second attempt only makes the client wait longer.
    """
    return isinstance(error, _CONNECTION_LOST) and not isinstance(error, TimeoutError)


def server_at_fault(error: BaseException) -> bool:
    """Whether the database failed, rather than our code."""
    if isinstance(error, asyncpg.PostgresError):
        is_ours = isinstance(error, _STATEMENT_AT_FAULT)
        return not is_ours or isinstance(error, _SERVER_AT_FAULT)
    return connection_lost(error) or isinstance(error, TimeoutError)
