"""Migrating a database to this build's schema, and checking whether that has been done."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic import command
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sql import Statement

_CURRENT_REVISION: Final = Statement(
    "SELECT version_num::text FROM alembic_version", (), typed=True
)


class CannotMigrate(Exception):
    """Migrations must not change this database; the message says why, and what to do."""


def config(url: str | None = None) -> Config:
    """Alembic's configuration for these migrations.

    Args:
        url: the database, in any form that ``parse_database_url`` reads; without it,
            ``DATABASE_URL``.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    configuration.attributes["url"] = url
    return configuration


def script_location() -> Path:
    """The folder ``alembic``: inside this package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    in_wheel = package / "alembic"
    return in_wheel if in_wheel.exists() else package.parent / "alembic"


def upgrade(url: str) -> None:
    """Upgrade a database to the newest schema, as ``alembic upgrade head`` does.

    If several instances migrate at the same time, one does the work and the others wait for it.
    Must not be called from a thread that runs an event loop.

    Raises:
        CannotMigrate: the database has another encoding, or a table ``tasks`` that is not ours.
    """
    command.upgrade(config(url), "head")


async def is_schema_current(db: Database) -> bool:
    """Whether the schema is this build's or a newer one.

    A revision that this build does not know is a newer one. It counts, because migrations keep
    what the previous release uses: old instances keep serving during a deploy.

    Raises:
        Unavailable: the database does not answer.
    """
    try:
        records = await db.read(_CURRENT_REVISION)
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.UndefinedTableError):  # Never migrated.
            return False
        raise
    older, newest = _revisions()
    revisions = {record[0] for record in records}
    return bool(revisions) and (newest in revisions or revisions.isdisjoint(older))


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """The revisions before the newest one, and the newest one."""
    scripts = ScriptDirectory.from_config(config())
    newest = scripts.get_current_head()
    assert newest is not None
    return frozenset(script.revision for script in scripts.walk_revisions()) - {newest}, newest
