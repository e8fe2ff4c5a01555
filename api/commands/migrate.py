"""`twofold migrate`: the schema brought up to date."""

from __future__ import annotations

import asyncpg
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api.commands.terminal import Refusal, given
from persistence import migrations
from persistence.urls import parse_database_url


def migrate() -> None:
    """Upgrade the database in ``DATABASE_URL``.

    Raises:
        Refusal: there is none, or it could not be upgraded.
    """
    # Nothing but the database: a release step has no need of the service's secrets.
    url = given("DATABASE_URL")
    if not url:
        raise Refusal("DATABASE_URL is not set: it names the database to migrate.", code=2)
    try:
        parse_database_url(url)
    except ValueError as error:
        raise Refusal(f"DATABASE_URL: {error}", code=2) from None
    upgrade(url)
    print("The schema is up to date.")


def upgrade(url: str) -> None:
    """Upgrade a database.

    Raises:
        Refusal: it could not be; why, in one line.
    """
    try:
        migrations.upgrade(url)
    except DBAPIError as error:
        raise Refusal(f"The database could not be migrated: {error.orig}") from None
    except migrations.CannotMigrate as error:
        raise Refusal(str(error)) from None
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, CommandError) as error:
        reason = str(error) or type(error).__name__
        raise Refusal(f"The database could not be migrated: {reason}") from None
