"""How many responses to one payer are made, or wait to be read by the client, at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from persistence.errors import Unavailable

MAX_UNITS: Final = 8
"""The most units that the responses to one payer occupy together. A response occupies as many as
its request costs (a list: 1; a GraphQL document: 1 for each root field), and at most all. So the
responses to one payer hold at most eight lists in memory, or one GraphQL response that alone is
larger."""

MAX_WAITING: Final = 256
"""The most requests of one payer that wait for units."""

WAIT_SECONDS: Final = 10.0
"""How long a request waits for units, in seconds."""


class Answers:
    """Units for responses, by payer, first come, first served.

    A payer without a response under way takes no memory.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """The number of payers with responses under way."""
        return len(self._queues)

    async def acquire(self, payer: str, units: int) -> None:
        """Take units; wait for them if they are in use.

        Args:
            units: 1 to ``MAX_UNITS``.

        Raises:
            Unavailable: none were released in time, or too many requests wait for them already.
        """
        if self.acquire_at_once(payer, units):
            return
        queue = self._queues[payer]
        if len(queue.waiting) < MAX_WAITING:
            await self._wait(payer, queue, units)
        else:
            raise Unavailable(f"{MAX_WAITING} requests of one person wait for earlier answers")

    def acquire_at_once(self, payer: str, units: int) -> bool:
        """Take units if nobody has to wait for them; return whether they were taken."""
        queue = self._queues.get(payer)
        if queue is None:
            queue = self._queues[payer] = _Queue()
        if queue.waiting or units > queue.available:
            return False
        queue.available -= units
        return True

    def release(self, payer: str, units: int) -> None:
        """Give units back; the first requests in the queue take them."""
        queue = self._queues[payer]
        queue.available += units
        while queue.waiting:
            future, needed = queue.waiting[0]
            if needed > queue.available and not future.done():
                break
            queue.waiting.popleft()
            if not future.done():  # It is done if its request was just cancelled.
                queue.available -= needed
                future.set_result(None)
        if queue.available == MAX_UNITS:
            del self._queues[payer]

    async def _wait(self, payer: str, queue: _Queue, units: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (future, units)
        queue.waiting.append(entry)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.release(payer, units)  # The units arrived at the same moment.
            elif entry in queue.waiting:
                queue.waiting.remove(entry)
                self.release(payer, 0)  # The next request may need fewer units.
            if isinstance(error, TimeoutError):
                raise Unavailable("earlier answers to one person are not read") from None
            raise


class _Queue:
    """One payer's available units, and the requests that wait for some."""

    __slots__ = ("available", "waiting")

    def __init__(self) -> None:
        self.available = MAX_UNITS
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()


class Answering:
    """The units of one request, from its admission until its response is read."""

    __slots__ = ("_answers", "_payer", "_units")

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._payer = ""
        self._units = 0

    async def begin(self, payer: str, cost: int) -> None:
        """Wait for the units of a request with this cost.

        Raises:
            Unavailable: they were not available in time.
        """
        units = min(cost, MAX_UNITS)
        await self._answers.acquire(payer, units)
        self._payer, self._units = payer, units

    def begin_at_once(self, payer: str, cost: int) -> bool:
        """Take the units of a request with this cost, unless it would have to wait for them."""
        units = min(cost, MAX_UNITS)
        if not self._answers.acquire_at_once(payer, units):
            return False
        self._payer, self._units = payer, units
        return True

    def end(self) -> None:
        """Release the units."""
        if self._units:
            self._answers.release(self._payer, self._units)
            self._units = 0
