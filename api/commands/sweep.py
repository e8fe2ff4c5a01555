"""`twofold sweep`: remove what was in the trash for too long, and expired idempotency keys."""

from __future__ import annotations

import asyncio

import asyncpg
from pydantic import TypeAdapter, ValidationError

from api.commands.database import DatabaseVariables, batches, read_database
from api.commands.errors import CommandError
from api.dotenv import read_variable
from api.setting_values import TRASH_DAYS, TrashDays
from persistence import sweep as sweeps
from persistence.errors import Unavailable

PAUSE = 0.1
"""Seconds to wait for a sweep of an instance, which takes milliseconds."""


def sweep() -> None:
    """Remove tasks that were deleted more than ``TRASH_DAYS`` ago, and expired idempotency keys.

    The service does the same by itself, in the background. Prints what was removed.

    Raises:
        CommandError: a variable is missing or invalid, or the database failed.
    """
    days = _trash_days()
    try:
        tasks, keys = asyncio.run(_sweep(read_database(), days))
    except (Unavailable, asyncpg.PostgresError) as error:
        raise CommandError(f"The sweep failed: {error}") from None
    print(f"Removed from the trash: {tasks}. Expired idempotency keys: {keys}.")


def _trash_days() -> int:
    text = read_variable("TRASH_DAYS")
    try:
        return TypeAdapter(TrashDays).validate_python(TRASH_DAYS if text is None else text)
    except ValidationError:
        problem = "TRASH_DAYS: It must be a whole number, 1 to 3650."
        raise CommandError(problem, exit_code=2) from None


async def _sweep(database: DatabaseVariables, days: int) -> tuple[int, int]:
    tasks = keys = 0
    async with batches(database) as new_batch:
        while True:
            swept = await sweeps.sweep(new_batch(), days)
            tasks += swept.tasks
            keys += swept.keys
            if not swept.is_alone:
                await asyncio.sleep(PAUSE)
            elif not swept.may_leave_more:
                return tasks, keys
