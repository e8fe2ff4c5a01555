"""`twofold reassign`: give all tasks of one user to another, as when a visitor signs up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg

from api.commands.database import DatabaseVariables, batches, read_database
from api.commands.errors import CommandError
from persistence import tasks
from persistence.errors import Unavailable

BATCH = 1000
"""Tasks that one statement changes: their rows are locked for a fraction of a second."""


def reassign(old: str, new: str) -> None:
    """Give all tasks of the user ``old`` to the user ``new``; print how many they are.

    It may be repeated, and run while the service runs. A task that ``old`` adds meanwhile may stay.

    Raises:
        CommandError: a variable is missing or invalid, a user id is empty or not UTF-8, or both are
            the same; or the database failed, and the message says after how many tasks.
    """
    if not old.strip() or not new.strip() or old == new:
        raise CommandError("Name two different user ids, the old one first.", exit_code=2)
    try:
        (old + new).encode()
    except UnicodeEncodeError:
        raise CommandError("A user id is not valid UTF-8.", exit_code=2) from None
    progress = _Progress()
    try:
        asyncio.run(_reassign(read_database(), old, new, progress))
    except (Unavailable, asyncpg.PostgresError) as error:
        raise CommandError(f"Reassigned {progress}, then it failed: {error}") from None
    print(f"Reassigned {progress}.")


@dataclass
class _Progress:
    """How many tasks have been given away so far."""

    count: int = 0

    def __str__(self) -> str:
        return f"{self.count} {'task' if self.count == 1 else 'tasks'}"


async def _reassign(database: DatabaseVariables, old: str, new: str, progress: _Progress) -> None:
    # From id to id, so that it ends even if somebody keeps giving tasks back to the old user.
    after: int | None = 0
    async with batches(database) as new_batch:
        while after is not None:
            done = await tasks.reassign(new_batch(), old, new, after, BATCH)
            progress.count += done.amount
            after = done.last
