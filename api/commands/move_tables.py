"""`twofold move-tables`: move an existing installation into the schema ``DATABASE_SCHEMA``."""

from __future__ import annotations

import asyncio

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.commands.errors import CommandError
from api.commands.migrate import read_database
from persistence import migrations


def move_tables() -> None:
    """Move our tables, with their rows, indexes and ids, into the schema ``DATABASE_SCHEMA``.

    Stop every instance first: those without the setting would not find the tables any more.

    Raises:
        CommandError: a variable is missing or invalid, there is nothing to move, or it failed, and
            then nothing is changed.
    """
    url, schema = read_database()
    if schema is None:
        raise CommandError("DATABASE_SCHEMA is not set: it names the new schema.", exit_code=2)
    try:
        asyncio.run(migrations.move_tables(url, schema))
    except migrations.CannotMigrate as error:
        raise CommandError(str(error)) from None
    except DBAPIError as error:
        raise CommandError(f"The tables could not be moved: {error.orig}") from None
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as error:
        raise CommandError(f"The tables could not be moved: {error}") from None
    print(f"The tables are in the schema {schema}.")
