"""What an error of the database driver means: a lost connection, the server's failure, or ours."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
from asyncpg import exceptions as pg

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
