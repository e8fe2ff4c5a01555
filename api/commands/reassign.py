"""`twofold reassign`: give all tasks of one user to another, as when a visitor signs up."""

from __future__ import annotations

import asyncio

from api.commands.errors import CommandError
from api.commands.migrate import DatabaseVariables, read_database
from persistence import tasks
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.pool import Pool, PoolSettings

BATCH = 1000
"""Tasks that one statement changes: their rows are locked for a fraction of a second."""

SECONDS = 60.0
"""How long one batch may take."""


def reassign(old: str, new: str) -> None:
    """Give all tasks of the user ``old`` to the user ``new``; print how many they are.

    It may be repeated, and run while the service runs.

    Raises:
        CommandError: a variable is missing or invalid, a user id is empty or both are the same,
            or the database failed; the batches before that are done.
    """
    if not old.strip() or not new.strip() or old == new:
        raise CommandError("Name two different user ids, the old one first.", exit_code=2)
    try:
        count = asyncio.run(_reassign(read_database(), old, new))
    except Unavailable as error:
        raise CommandError(f"The tasks could not be reassigned: {error}") from None
    print(f"Reassigned {count} {'task' if count == 1 else 'tasks'}.")


async def _reassign(database: DatabaseVariables, old: str, new: str) -> int:
    settings = PoolSettings(1, 1, timeout=SECONDS, recycle=-1, pre_ping=False)
    pool = Pool(database.url, settings)
    count = 0
    try:
        while True:
            db = Database(pool, SECONDS, schema=database.schema)
            done = await tasks.reassign(db, old, new, BATCH)
            count += done
            if done < BATCH:
                return count
    finally:
        await pool.close()
