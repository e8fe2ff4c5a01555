"""`twofold feeds reset`: every client that follows changes starts anew."""

from __future__ import annotations

import asyncio

import asyncpg

from api.commands.database import batches, read_database
from api.commands.errors import CommandError
from persistence import feeds as persisted_feeds
from persistence.errors import Unavailable


def feeds(action: str) -> None:
    """Make all sync tokens expire, as is needed after a backup was restored.

    The numbers of a backup are given a second time, so a client would take new changes for those
    that it has. It may be repeated, and run while the service runs.

    Args:
        action: ``reset``, the only one.

    Raises:
        CommandError: a variable is missing or invalid, or the database failed.
    """
    assert action == "reset"
    try:
        asyncio.run(_reset())
    except (Unavailable, asyncpg.PostgresError) as error:
        raise CommandError(f"The feeds could not be reset: {error}") from None
    print("Every client that follows changes will start anew.")


async def _reset() -> None:
    async with batches(read_database()) as access:
        await persisted_feeds.reset(access())
