"""`twofold migrate`: upgrade the schema of the database."""

from __future__ import annotations

import asyncpg
from alembic.util import CommandError as AlembicError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.commands.errors import CommandError
from api.dotenv import read_variable
from persistence import migrations
from persistence.urls import parse_database_url


def migrate() -> None:
    """Upgrade the database in ``DATABASE_URL``.

    Raises:
        CommandError: the variable is missing or invalid, or the upgrade failed.
    """
    # No other setting is read: a release step need not know the service's secrets.
    url = read_variable("DATABASE_URL")
    if not url:
        raise CommandError(
            "DATABASE_URL is not set: it names the database to migrate.", exit_code=2
        )
    try:
        parse_database_url(url)
    except ValueError as error:
        raise CommandError(f"DATABASE_URL: {error}", exit_code=2) from None
    upgrade(url)
    print("The schema is up to date.")


def upgrade(url: str) -> None:
    """Upgrade a database.

    Raises:
        CommandError: the upgrade failed; the message gives the reason in one line.
    """
    try:
        migrations.upgrade(url)
    except DBAPIError as error:
        raise CommandError(f"The database could not be migrated: {error.orig}") from None
    except migrations.CannotMigrate as error:
        raise CommandError(str(error)) from None
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, AlembicError) as error:
        reason = str(error) or type(error).__name__
        raise CommandError(f"The database could not be migrated: {reason}") from None
