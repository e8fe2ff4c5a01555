"""Bringing a database to this build's schema, and telling whether it is there."""

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

_SCRIPTS: Final = Path(__file__).resolve().parent.parent / "alembic"

_CURRENT_REVISION: Final = Statement(
    "SELECT version_num::text FROM alembic_version", (), typed=True
)


class CannotMigrate(Exception):
    """The database is in a state that migrations must not touch; the sentence says what to do."""


def config(url: str | None = None) -> Config:
    """Alembic's configuration for these migrations.

    Args:
        url: the database, as people paste it; without it the environment's ``DATABASE_URL``.
    """
    found = Config()
    found.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    found.attributes["url"] = url
    return found


def upgrade(url: str) -> None:
    """Bring the database to the newest schema, as ``alembic upgrade head`` does.

    Instances that do so at the same time wait for one another. Must not be called from a thread
    that runs an event loop.

    Raises:
        CannotMigrate: what is there is not ours to change.
    """
    command.upgrade(config(url), "head")


async def is_schema_current(db: Database) -> bool:
    """Whether the schema is at least this build's.

    A newer one, whose revision this build has never heard of, counts: migrations only expand
    what the release before them uses, and old instances serve on during a deploy.

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
    """The revisions before this build's own, and that."""
    scripts = ScriptDirectory.from_config(config())
    newest = scripts.get_current_head()
    assert newest is not None
    return frozenset(script.revision for script in scripts.walk_revisions()) - {newest}, newest
