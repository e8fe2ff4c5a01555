"""Runs the Python client of ``docs/live.md``; writes what ``tests/node/live/main.ts`` writes."""

from __future__ import annotations

import asyncio
import json
import os

# Extracted from the document; PYTHONPATH has its folder.
from follow_tasks import TaskCopy, follow


async def main() -> None:
    """Follow the tasks until the session ends, and stay."""
    copy, written = TaskCopy(), ""
    following = asyncio.create_task(
        follow(os.environ["TWOFOLD_URL"], os.environ["TWOFOLD_TOKEN"], copy)
    )
    while True:
        ended = following.done() and following.result() is None
        state = {"client": "gql", "ended": ended, "tasks": list(copy.tasks.values())}
        line = json.dumps(state)
        if line != written:
            print(line, flush=True)
        written = line
        await asyncio.sleep(0.05)


asyncio.run(main())
