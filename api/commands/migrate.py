"""`twofold migrate`: upgrade the schema of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from logging.config import dictConfig
from typing import Final

import asyncpg
from alembic.util import CommandError as AlembicError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.commands.database import DatabaseVariables, batches, read_database
from api.commands.errors import CommandError
from api.dotenv import read_variable
from api.telemetry.log_lines import command_log_config
from persistence import migrations, search_texts
from persistence.errors import Unavailable


def migrate() -> None:
    """Upgrade the database in ``DATABASE_URL``, in the schema ``DATABASE_SCHEMA``.

    Then compute what searches need of tasks that the release before wrote, in steps, while
    instances serve.

    Raises:
        CommandError: a variable is missing or invalid, or the upgrade failed.
    """
    set_up_logging()
    database = read_database()
    upgrade(*database)
    print("The schema is up to date.")
    try:
        amount = asyncio.run(_compute_search_texts(database))
    except (Unavailable, asyncpg.PostgresError) as error:
        raise CommandError(f"Searches are slow until this is repeated: {error}") from None
    if amount:
        print(f"Searches are fast for {amount} more {'task' if amount == 1 else 'tasks'}.")


BATCH: Final = 1000
"""Tasks whose text one statement stores: their rows are locked for a fraction of a second."""


def set_up_logging() -> None:
    """Log what Alembic does, if ``LOG_LEVEL`` is set; otherwise only the command says something."""
    if read_variable("LOG_LEVEL"):
        dictConfig(command_log_config(read_variable))


async def _compute_search_texts(database: DatabaseVariables) -> int:
    """Compute the text of all tasks that lack it; how many they are."""
    amount = 0
    after: int | None = 0
    async with batches(database) as new_batch:
        while after is not None:
            done = await search_texts.compute(new_batch(), after, BATCH)
            amount += done.amount
            after = done.last
    return amount


DATABASE_ERRORS: Final = (
    OSError,
    SQLAlchemyError,
    asyncpg.PostgresError,
    # The driver's own: the server asks for a kind of authentication that asyncpg does not have.
    asyncpg.InterfaceError,
)
"""What connecting to a database and using it can raise."""


def upgrade(url: str, schema: str | None = None) -> None:
    """Upgrade a database.

    Args:
        schema: of our tables.

    Raises:
        CommandError: the upgrade failed; the message gives the reason in one line.
    """
    with one_sentence("migrated"):
        migrations.upgrade(url, schema)


@contextmanager
def one_sentence(done: str) -> Iterator[None]:
    """Raise what migrations can raise as a sentence.

    Args:
        done: what could not be done to the database: ``"migrated"``.

    Raises:
        CommandError: instead of any of these errors.
    """
    try:
        yield
    except DBAPIError as error:
        raise CommandError(f"The database could not be {done}: {error.orig}") from None
    except migrations.CannotMigrate as error:
        raise CommandError(str(error)) from None
    except (*DATABASE_ERRORS, AlembicError) as error:
        reason = str(error) or type(error).__name__
        raise CommandError(f"The database could not be {done}: {reason}") from None
