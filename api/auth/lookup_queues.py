"""Session look-ups for addresses whose budget is spent: one at a time, at a bounded rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LOOKUP_INTERVAL: Final = 0.1
"""Seconds from the end of one look-up to the next, for an address whose budget is spent."""


MAX_WAITING_LOOKUPS: Final = 10
"""Look-ups that may wait for one such address."""


LOOKUP_TIMEOUT: Final = 2.0
"""Seconds that a look-up waits for its turn, at most."""


class LookupsExhausted(Exception):
    """Too many unknown tokens come from one address whose budget is spent."""


class LookupQueues:
    """Look-ups for addresses whose budget is spent: one at a time each, at a bounded rate."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def acquire(self, address: str) -> AsyncIterator[None]:
        """Wait until this address may look up a token, first in, first out.

        Raises:
            LookupsExhausted: too many requests wait already, or the wait was too long.
        """
        queue = self._queues.setdefault(address, _Queue())
        if queue.waiting >= MAX_WAITING_LOOKUPS:
            raise LookupsExhausted
        queue.waiting += 1
        is_next = False
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                is_next = await queue.slot.acquire()
        except TimeoutError:
            raise LookupsExhausted from None
        finally:
            queue.waiting -= 1
            is_idle = not (is_next or queue.waiting or queue.slot.locked())
            if is_idle and self._queues.get(address) is queue:
                del self._queues[address]  # Nobody is left who would remove it.
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(LOOKUP_INTERVAL, self._release, address, queue)

    def _release(self, address: str, queue: _Queue) -> None:
        queue.slot.release()
        if not queue.waiting:
            del self._queues[address]


class _Queue:
    """The slot of one address, and the number of requests that wait for it."""

    __slots__ = ("slot", "waiting")

    def __init__(self) -> None:
        self.slot = asyncio.Semaphore(1)
        self.waiting = 0
