"""`twofold move-tables`: move an existing installation into the schema ``DATABASE_SCHEMA``."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError

from api.commands.database import read_database
from api.commands.errors import CommandError
from api.commands.migrate import DATABASE_ERRORS
from persistence import moves
from persistence.migrations import CannotMigrate


def move_tables() -> None:
    """Move our tables, with all that belongs to them, into the schema ``DATABASE_SCHEMA``.

    Stop every instance first: those without the setting would not find the tables any more. If the
    tables are there already, this is no error.

    Raises:
        CommandError: a variable is missing or invalid, there is nothing to move, or it failed, and
            then nothing is changed.
    """
    url, schema = read_database()
    if schema is None:
        raise CommandError("DATABASE_SCHEMA is not set: it names the new schema.", exit_code=2)
    try:
        has_moved = asyncio.run(moves.move_tables(url, schema))
    except CannotMigrate as error:
        raise CommandError(str(error)) from None
    except DBAPIError as error:
        reason = _IN_USE if getattr(error.orig, "sqlstate", "") == _LOCK_TIMEOUT else error.orig
        raise CommandError(f"The tables could not be moved: {reason}") from None
    except DATABASE_ERRORS as error:
        raise CommandError(f"The tables could not be moved: {error}") from None
    print(f"The tables are in the schema {schema}{'' if has_moved else ' already'}.")


_LOCK_TIMEOUT: Final = asyncpg.LockNotAvailableError.sqlstate

_IN_USE: Final = (
    "a statement that is not over holds one of them. Nothing is changed. Stop every instance, and "
    "end what else uses the tables."
)
