"""How many responses to one payer are made, or wait to be read by the client, at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from persistence.errors import Unavailable

MAX_SLOTS: Final = 8
"""The most slots that the responses to one payer occupy together. A response occupies as many as
its request costs (a list: 1; a GraphQL document: 1 for each root field), and at most all. So the
responses to one payer hold at most eight lists in memory, or one GraphQL response that alone is
larger."""

MAX_WAITING_REQUESTS: Final = 256
"""The most requests of one payer that wait for slots."""

WAIT_SECONDS: Final = 10.0
"""How long a request waits for slots, in seconds."""


class ResponseSlots:
    """Slots for responses, by payer, first come, first served.

    A payer without a response under way takes no memory.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """The number of payers with responses under way."""
        return len(self._queues)

    async def acquire(self, payer: str, slots: int) -> None:
        """Take slots; wait for them if they are in use.

        Args:
            slots: 1 to ``MAX_SLOTS``.

        Raises:
            Unavailable: none were released in time, or too many requests wait for them already.
        """
        if self.acquire_at_once(payer, slots):
            return
        queue = self._queues[payer]
        if len(queue.waiting) < MAX_WAITING_REQUESTS:
            await self._wait(payer, queue, slots)
        else:
            raise Unavailable(
                f"{MAX_WAITING_REQUESTS} requests of one person wait for their earlier responses"
            )

    def acquire_at_once(self, payer: str, slots: int) -> bool:
        """Take slots if nobody has to wait for them; return whether they were taken."""
        queue = self._queues.get(payer)
        if queue is None:
            queue = self._queues[payer] = _Queue()
        if queue.waiting or slots > queue.available:
            return False
        queue.available -= slots
        return True

    def release(self, payer: str, slots: int) -> None:
        """Give slots back; the first requests in the queue take them."""
        queue = self._queues[payer]
        queue.available += slots
        while queue.waiting:
            future, needed = queue.waiting[0]
            if needed > queue.available and not future.done():
                break
            queue.waiting.popleft()
            if not future.done():  # It is done if its request was just cancelled.
                queue.available -= needed
                future.set_result(None)
        if queue.available == MAX_SLOTS:
            del self._queues[payer]

    async def _wait(self, payer: str, queue: _Queue, slots: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (future, slots)
        queue.waiting.append(entry)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.release(payer, slots)  # The slots arrived at the same moment.
            elif entry in queue.waiting:
                queue.waiting.remove(entry)
                self.release(payer, 0)  # The next request may need fewer slots.
            if isinstance(error, TimeoutError):
                raise Unavailable("earlier responses to one person are not read") from None
            raise


class _Queue:
    """One payer's available slots, and the requests that wait for some."""

    __slots__ = ("available", "waiting")

    def __init__(self) -> None:
        self.available = MAX_SLOTS
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()


class RequestSlots:
    """The slots of one request, from its admission until its response is read."""

    __slots__ = ("_payer", "_slots", "_taken")

    def __init__(self, slots: ResponseSlots) -> None:
        self._slots = slots
        self._payer = ""
        self._taken = 0

    def another(self) -> RequestSlots:
        """The slots of another request."""
        return RequestSlots(self._slots)

    async def begin(self, payer: str, cost: int) -> None:
        """Wait for the slots of a request with this cost.

        Raises:
            Unavailable: they were not available in time.
        """
        slots = min(cost, MAX_SLOTS)
        await self._slots.acquire(payer, slots)
        self._payer, self._taken = payer, slots

    def begin_at_once(self, payer: str, cost: int) -> bool:
        """Take the slots of a request with this cost, unless it would have to wait for them."""
        slots = min(cost, MAX_SLOTS)
        if not self._slots.acquire_at_once(payer, slots):
            return False
        self._payer, self._taken = payer, slots
        return True

    def end(self) -> None:
        """Release the slots."""
        if self._taken:
            self._slots.release(self._payer, self._taken)
            self._taken = 0
