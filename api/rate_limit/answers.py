"""How many answers of one person are made, or wait to be read, at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from persistence.errors import Unavailable

MAX_UNITS: Final = 8
"""The most units that one person's answers under way take together. An answer takes as many as its
request costs (a list, a page of GraphQL: one each), and at most all; so what one person's answers
hold in memory is at most eight lists, or one answer of GraphQL that alone is larger."""

MAX_WAITING: Final = 256
"""The most requests of one person that wait for units."""

WAIT_SECONDS: Final = 10.0
"""How long one of them waits."""


class Answers:
    """Units for answers, by payer, first come, first served. Nothing is kept of a payer with no
    answer under way."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many payers have answers under way."""
        return len(self._lines)

    async def take(self, payer: str, units: int) -> None:
        """Take units; at most ``MAX_UNITS``.

        Raises:
            Unavailable: there were none in time, or too many requests wait for them already.
        """
        line = self._lines.get(payer)
        if line is None:
            line = self._lines[payer] = _Line()
        if not line.waiting and units <= line.free:
            line.free -= units
        elif len(line.waiting) < MAX_WAITING:
            await self._wait(payer, line, units)
        else:
            raise Unavailable(f"{MAX_WAITING} requests of one person wait for earlier answers")

    def give(self, payer: str, units: int) -> None:
        """Give units back, to who waits first."""
        line = self._lines[payer]
        line.free += units
        while line.waiting and (line.waiting[0][1] <= line.free or line.waiting[0][0].done()):
            turn, wanted = line.waiting.popleft()
            if not turn.done():  # Cancelled a moment ago.
                line.free -= wanted
                turn.set_result(None)
        if line.free == MAX_UNITS:
            del self._lines[payer]

    async def _wait(self, payer: str, line: _Line, units: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (turn, units)
        line.waiting.append(place)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give(payer, units)  # It came at the same moment.
            elif place in line.waiting:
                line.waiting.remove(place)
                self.give(payer, 0)  # Who stands behind may fit where this one did not.
            if isinstance(error, TimeoutError):
                raise Unavailable("earlier answers to one person are not read") from None
            raise


class _Line:
    """One payer's: the units that are free, and the requests that wait for some."""

    __slots__ = ("free", "waiting")

    def __init__(self) -> None:
        self.free = MAX_UNITS
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()


class Answering:
    """One request's share of them, from its turn until its answer is read."""

    __slots__ = ("_answers", "_payer", "_units")

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._payer = ""
        self._units = 0

    async def begin(self, payer: str, cost: int) -> None:
        """Wait for the turn of a request with this cost.

        Raises:
            Unavailable: it did not come in time.
        """
        units = min(cost, MAX_UNITS)
        await self._answers.take(payer, units)
        self._payer, self._units = payer, units

    def end(self) -> None:
        """Let the next one begin."""
        if self._units:
            self._answers.give(self._payer, self._units)
            self._units = 0
