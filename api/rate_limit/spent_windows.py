"""A cache of the windows that Redis reported as spent, so that refusing needs no round trip."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from api.charges import WindowState
from persistence.clock import elapsed

MAX_SPENT: Final = 10_000
"""Spent windows of viewers that are cached, and as many of addresses; about 400 bytes each."""

CLOCK_DRIFT: Final = 0.001
"""The largest relative difference in speed between Redis's clock and ours. NTP corrects by half
of this at most."""


class SpentWindows:
    """The windows that Redis reported as spent, and until when not even a hit of 1 fits.

    An entry ends before Redis would allow a hit. Memory is bounded: expired entries are removed,
    and the oldest ones beyond ``MAX_SPENT``; Redis is then called again.
    """

    def __init__(self) -> None:
        self._viewers: OrderedDict[str, _Entry] = OrderedDict()
        self._addresses: OrderedDict[str, _Entry] = OrderedDict()

    def store(self, key: str, state: WindowState, called_at: float, anonymous: bool) -> None:
        """Cache the state of a spent window.

        Args:
            called_at: the value of ``elapsed`` before Redis was called.
        """
        table = self._addresses if anonymous else self._viewers
        now = elapsed()
        # Counted from before the call, less the clock drift, so that it never ends after Redis's.
        until = called_at + state.seconds_until_one_fits * (1 - CLOCK_DRIFT)
        table.pop(key, None)
        table[key] = _Entry(until, now, state)
        while table and (len(table) > MAX_SPENT or next(iter(table.values())).until <= now):
            table.popitem(last=False)

    def refusal(self, key: str, anonymous: bool) -> WindowState | None:
        """The refusal of a hit of 1 as Redis would answer it now, if it is cached."""
        table = self._addresses if anonymous else self._viewers
        entry = table.get(key)
        if entry is None:
            return None
        now = elapsed()
        if now >= entry.until:
            del table[key]
            return None
        # Counted from after the reply, so that no client is given a time that is too early.
        passed = now - entry.answered_at
        state = entry.state
        return state._replace(
            allowed=False,
            seconds_until_allowed=state.seconds_until_one_fits - passed,
            seconds_until_one_fits=state.seconds_until_one_fits - passed,
            seconds_until_full=state.seconds_until_full - passed,
            now=state.now + passed,
        )


class _Entry(NamedTuple):
    until: float
    answered_at: float
    state: WindowState
