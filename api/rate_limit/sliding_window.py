"""Moving windows: how much of a limit is left. Here are the terms, and windows in this process.

Knows keys and numbers; knows no requests, no people and no prices. The windows that all instances
share are in ``api.rate_limit.redis_sliding_window``.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple, Protocol

from persistence.sessions.cache import elapsed


class Limit(NamedTuple):
    """At most ``amount`` within any ``seconds``."""

    amount: int
    seconds: int


class Standing(NamedTuple):
    """How a window stands after a hit.

    Attributes:
        allowed: whether the hit was counted; it counts whole or not at all.
        limit: what the window allows.
        remaining: what is left of it now.
        fits_in: seconds until the hit would be allowed; 0 when it was.
        full_in: seconds until everything is left again.
        now: the Unix time by the clock that decided.
        one_fits_in: seconds until a hit of 1 would be allowed; 0 when something is left.
    """

    allowed: bool
    limit: Limit
    remaining: int
    fits_in: float
    full_in: float
    now: float
    one_fits_in: float = 0.0


class Windows(Protocol):
    """Counts hits by key.

    A key is ``anonymous`` when anybody can make it up, an address for example. Such keys are
    kept apart from those of people, so that however many there are, they displace no person's.
    """

    async def hit(self, key: str, limit: Limit, cost: int, *, anonymous: bool = False) -> Standing:
        """Count ``cost`` hits if all of them fit, else none. A cost of 0 only looks."""
        ...

    def spent(self, key: str, limit: Limit, *, anonymous: bool = False) -> Standing | None:
        """The refusal of a hit of 1, if it is known without a round trip that it does not fit."""
        ...


MAX_PEOPLE: Final = 50_000
"""Windows of people that are kept in this process, for each limit."""

MAX_ADDRESSES: Final = 10_000
"""Windows of anonymous keys that are kept in this process, for each limit."""

MAX_TIMES: Final = 1_000
"""Times that one window keeps at most: 16 KB. A larger limit is counted in as many steps."""


class LocalWindows:
    """Windows in this process, in bounded memory.

    When there is no room for another anonymous key, because every window kept has hits that
    count, all further anonymous keys share one window: a stranger may then be refused early, but
    no spent window starts anew. People never share: beyond ``max_people`` the window that was hit
    least recently is forgotten, one with something left first.

    Args:
        max_people: windows of people that are kept, for each limit.
        max_addresses: windows of anonymous keys that are kept, for each limit.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        max_people: int = MAX_PEOPLE,
        max_addresses: int = MAX_ADDRESSES,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._max_people = max_people
        self._max_addresses = max_addresses
        self._clock = clock
        # Few: there are as many limits as are configured.
        self._tables: dict[tuple[Limit, bool], _Table] = {}

    async def hit(self, key: str, limit: Limit, cost: int, *, anonymous: bool = False) -> Standing:
        """See ``Windows.hit``."""
        now = self._clock()
        table = self._table(limit, anonymous)
        window = table.find(key, now)
        allowed = window.count + cost <= limit.amount
        if allowed and cost:
            window.add(now, cost)
            table.keep(key, window)
        return _standing(window, limit, cost, now, allowed=allowed)

    def spent(self, key: str, limit: Limit, *, anonymous: bool = False) -> Standing | None:
        """See ``Windows.spent``."""
        now = self._clock()
        window = self._table(limit, anonymous).find(key, now)
        if window.count < limit.amount:
            return None
        return _standing(window, limit, 1, now, allowed=False)

    def _table(self, limit: Limit, anonymous: bool) -> _Table:
        table = self._tables.get((limit, anonymous))
        if table is None:
            room = self._max_addresses if anonymous else self._max_people
            table = self._tables[limit, anonymous] = _Table(limit, room, shares=anonymous)
        return table


def _standing(window: _Window, limit: Limit, cost: int, now: float, *, allowed: bool) -> Standing:
    return Standing(
        allowed,
        limit,
        limit.amount - window.count,
        0.0 if allowed else window.fits_in(cost, now),
        window.full_in(now),
        time.time(),
        window.fits_in(1, now) if window.count >= limit.amount else 0.0,
    )


class _Window:
    """The hits of one key: times, the oldest first, and how many hits each stands for."""

    __slots__ = ("count", "counts", "limit", "times")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.times = array("d")
        self.counts = array("Q")
        self.count = 0

    def forget(self, now: float) -> None:
        """Remove the hits that have left the window."""
        begins = now - self.limit.seconds
        gone = 0
        while gone < len(self.times) and self.times[gone] <= begins:
            self.count -= self.counts[gone]
            gone += 1
        if gone:
            del self.times[:gone], self.counts[:gone]

    def add(self, now: float, cost: int) -> None:
        """Count hits. Beyond ``MAX_TIMES`` they join the latest ones, which then leave later."""
        step = self.limit.seconds / MAX_TIMES if self.limit.amount > MAX_TIMES else 0.0
        if self.times and now <= self.times[-1]:
            self.counts[-1] += cost
        else:
            # The end of the step: hits that join before it do not leave too early.
            self.times.append(now + step)
            self.counts.append(cost)
        self.count += cost

    def fits_in(self, cost: int, now: float) -> float:
        """Seconds until as many hits have left the window as the cost needs."""
        must_leave = self.count + cost - self.limit.amount
        for time_of, count in zip(self.times, self.counts, strict=True):
            must_leave -= count
            if must_leave <= 0:
                return time_of + self.limit.seconds - now
        return math.inf

    def full_in(self, now: float) -> float:
        """Seconds until all hits have left the window."""
        return self.times[-1] + self.limit.seconds - now if self.times else 0.0


_LOOKED_AT: Final = 100
"""Windows that are looked at to find one with something left, when one has to go."""


class _Table:
    """The windows of one limit, the one that was hit least recently first: it ends first, too."""

    def __init__(self, limit: Limit, room: int, *, shares: bool) -> None:
        self._limit = limit
        self._room = room
        self._shares = shares
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._shared = _Window(limit)

    def find(self, key: str, now: float) -> _Window:
        """The window of a key, without the hits that have left it."""
        window = self._windows.get(key)
        if window is None:
            self._make_room(now)
            is_full = len(self._windows) >= self._room
            window = self._shared if self._shares and is_full else _Window(self._limit)
        window.forget(now)
        return window

    def keep(self, key: str, window: _Window) -> None:
        """Keep a window that was hit just now."""
        if window is self._shared:
            return
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > self._room:
            del self._windows[self._expendable()]

    def _make_room(self, now: float) -> None:
        while self._windows:
            key, window = next(iter(self._windows.items()))
            window.forget(now)
            if window.count:
                return
            del self._windows[key]

    def _expendable(self) -> str:
        """Whose window to forget: nobody's that is spent, as far as can be seen."""
        return next(
            (
                key
                for key, window in islice(self._windows.items(), _LOOKED_AT)
                if window.count < self._limit.amount
            ),
            next(iter(self._windows)),
        )
