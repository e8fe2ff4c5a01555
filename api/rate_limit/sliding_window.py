"""Sliding windows: how much of a limit is left. The interface, and windows in this process.

Counts hits by key; contains nothing about requests, viewers or costs. The windows that all
instances share are in ``api.rate_limit.redis_sliding_window``.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final, Literal, Protocol

from api.charges import Limit, WindowState
from persistence.clock import elapsed


class SlidingWindow(Protocol):
    """Counts hits by key, each key in a sliding window of its own.

    A key is ``anonymous`` if anybody can make it up, an address for example. Anonymous keys are
    stored apart from those of viewers, so that no number of them displaces a viewer's.
    """

    @property
    def redis_status(self) -> Literal["ok", "degraded"] | None:
        """The state of the Redis that the instances share; ``None`` if there is none."""
        ...

    @property
    def degraded_hits(self) -> int:
        """Hits that were counted in this process, because Redis did not answer."""
        ...

    async def open(self) -> None:
        """Connect, if there is something to connect to."""
        ...

    async def check(self) -> None:
        """Bring ``redis_status`` up to date, if there is a Redis."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...

    async def hit(
        self, key: str, limit: Limit, cost: int, *, anonymous: bool = False
    ) -> WindowState:
        """Count ``cost`` hits if all of them fit, otherwise none. A cost of 0 only reads."""
        ...

    def cached_refusal(
        self, key: str, limit: Limit, *, anonymous: bool = False
    ) -> WindowState | None:
        """The refusal of a hit of 1, if this process knows that it does not fit.

        Makes no round trip. ``None`` means that only ``hit`` can tell.
        """
        ...


MAX_VIEWERS: Final = 50_000
"""Windows of viewers that this process stores, for each limit."""

MAX_ADDRESSES: Final = 10_000
"""Windows of anonymous keys that this process stores, for each limit."""

MAX_TIMES: Final = 1_000
"""The most times that one window stores (16 KB). A larger limit is counted in this many steps."""


class LocalSlidingWindow:
    """Windows in this process, in bounded memory.

    If all windows of anonymous keys have hits that count, further anonymous keys share one window.
    An unknown client may then be refused early, but no spent window is reset. Viewers never share
    a window: beyond ``max_viewers`` the least recently hit window is removed, if possible one that
    is not spent.

    Args:
        max_viewers: windows of viewers to store, for each limit.
        max_addresses: windows of anonymous keys to store, for each limit.
        clock: a monotonic clock, in seconds.
    """

    redis_status = None
    degraded_hits = 0

    def __init__(
        self,
        max_viewers: int = MAX_VIEWERS,
        max_addresses: int = MAX_ADDRESSES,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._max_viewers = max_viewers
        self._max_addresses = max_addresses
        self._clock = clock
        # As many as there are configured limits.
        self._tables: dict[tuple[Limit, bool], _Table] = {}

    async def open(self) -> None:
        """Do nothing: there is no connection."""

    async def check(self) -> None:
        """Do nothing: there is no connection."""

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    async def hit(
        self, key: str, limit: Limit, cost: int, *, anonymous: bool = False
    ) -> WindowState:
        """See ``SlidingWindow.hit``."""
        now = self._clock()
        table = self._table(limit, anonymous)
        window = table.find(key, now)
        allowed = window.count + cost <= limit.amount
        if allowed and cost:
            window.add(now, cost)
            table.store(key, window)
        return _state(window, limit, cost, now, allowed=allowed)

    def cached_refusal(
        self, key: str, limit: Limit, *, anonymous: bool = False
    ) -> WindowState | None:
        """See ``SlidingWindow.cached_refusal``."""
        now = self._clock()
        window = self._table(limit, anonymous).find(key, now)
        if window.count < limit.amount:
            return None
        return _state(window, limit, 1, now, allowed=False)

    def _table(self, limit: Limit, anonymous: bool) -> _Table:
        table = self._tables.get((limit, anonymous))
        if table is None:
            capacity = self._max_addresses if anonymous else self._max_viewers
            table = self._tables[limit, anonymous] = _Table(limit, capacity, shares=anonymous)
        return table


def _state(window: _Window, limit: Limit, cost: int, now: float, *, allowed: bool) -> WindowState:
    return WindowState(
        allowed,
        limit,
        limit.amount - window.count,
        0.0 if allowed else window.seconds_until_allowed(cost, now),
        window.seconds_until_full(now),
        time.time(),
        window.seconds_until_allowed(1, now) if window.count >= limit.amount else 0.0,
    )


class _Window:
    """The hits of one key: times, the oldest first, and the number of hits at each time."""

    __slots__ = ("count", "counts", "limit", "times")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.times = array("d")
        self.counts = array("Q")
        self.count = 0

    def remove_expired(self, now: float) -> None:
        """Remove the hits that have left the window."""
        start = now - self.limit.seconds
        expired = 0
        while expired < len(self.times) and self.times[expired] <= start:
            self.count -= self.counts[expired]
            expired += 1
        if expired:
            del self.times[:expired], self.counts[:expired]

    def add(self, now: float, cost: int) -> None:
        """Count hits. With a limit above ``MAX_TIMES``, hits of one step share its last time."""
        step = self.limit.seconds / MAX_TIMES if self.limit.amount > MAX_TIMES else 0.0
        if self.times and now <= self.times[-1]:
            self.counts[-1] += cost
        else:
            # The end of the step, so that no hit of the step expires too early.
            self.times.append(now + step)
            self.counts.append(cost)
        self.count += cost

    def seconds_until_allowed(self, cost: int, now: float) -> float:
        """Seconds until enough hits have left the window for this cost."""
        excess = self.count + cost - self.limit.amount
        for time_of, count in zip(self.times, self.counts, strict=True):
            excess -= count
            if excess <= 0:
                return time_of + self.limit.seconds - now
        return math.inf

    def seconds_until_full(self, now: float) -> float:
        """Seconds until all hits have left the window."""
        return self.times[-1] + self.limit.seconds - now if self.times else 0.0


_EVICTION_SCAN: Final = 100
"""How many windows are inspected for one that is not spent, when one has to be removed."""


class _Table:
    """The windows of one limit, the least recently hit first, which is also the first to expire."""

    def __init__(self, limit: Limit, capacity: int, *, shares: bool) -> None:
        self._limit = limit
        self._capacity = capacity
        self._shares = shares
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._shared = _Window(limit)

    def find(self, key: str, now: float) -> _Window:
        """The window of a key, without the hits that have left it."""
        window = self._windows.get(key)
        if window is None:
            self._remove_empty(now)
            is_full = len(self._windows) >= self._capacity
            window = self._shared if self._shares and is_full else _Window(self._limit)
        window.remove_expired(now)
        return window

    def store(self, key: str, window: _Window) -> None:
        """Store a window that was hit just now."""
        if window is self._shared:
            return
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > self._capacity:
            del self._windows[self._key_to_evict()]

    def _remove_empty(self, now: float) -> None:
        while self._windows:
            key, window = next(iter(self._windows.items()))
            window.remove_expired(now)
            if window.count:
                return
            del self._windows[key]

    def _key_to_evict(self) -> str:
        """The oldest window that is not spent; the oldest of all if the first ones are spent."""
        return next(
            (
                key
                for key, window in islice(self._windows.items(), _EVICTION_SCAN)
                if window.count < self._limit.amount
            ),
            next(iter(self._windows)),
        )
