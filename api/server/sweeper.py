"""The background sweep: any instance removes what has no use any more, one at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from api.state import State
from persistence.errors import Unavailable
from persistence.sweep import sweep

SWEEP_SECONDS: Final = 600.0
"""The average time between two sweeps of an instance that leave nothing, in seconds."""

BATCH_SECONDS: Final = 1.0
"""The time between two batches of one sweep, in seconds: what is in a hurry has the database."""

_log = logging.getLogger("twofold")


@asynccontextmanager
async def sweeping(state: State) -> AsyncIterator[None]:
    """Sweep in the block, the first time after about ``SWEEP_SECONDS``.

    The end of the block does not wait for a sweep: PostgreSQL undoes one that is cut off.
    """
    task = asyncio.create_task(_sweep_on(state))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _sweep_on(state: State) -> None:
    pause = SWEEP_SECONDS
    while True:
        # Not all instances at once, which were started together.
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = BATCH_SECONDS if await _may_leave_more(state) else SWEEP_SECONDS


async def _may_leave_more(state: State) -> bool:
    try:
        swept = await sweep(state.maintenance(), state.settings.trash_days)
    except (Unavailable, asyncpg.PostgresError) as error:
        _log.warning("the sweep failed, and is repeated later: %s", error)
        return False
    if swept.tasks or swept.keys:
        _log.info("swept: %d tasks of the trash, %d expired keys", swept.tasks, swept.keys)
    return swept.may_leave_more
