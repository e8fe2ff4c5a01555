"""People who use both doors as fast as they are answered; what failed, and what must be stored.

Nothing is asked twice: whoever is turned away counts as a failure.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final, TypeVar

import asyncpg
import httpx

from tests.surfaces import GraphQLSurface, Refused, RestSurface, Surface

ABSENT: Final = 0
"""In place of a version: there is no such task."""

Given = TypeVar("Given")


@dataclass(slots=True)
class Traffic:
    """What was asked, and what became of it.

    Attributes:
        ledger: the versions at which each task, known by its title, may be stored.
    """

    url: str
    token: str
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    ledger: dict[str, set[int]] = field(default_factory=dict)
    _over: bool = False
    _people: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def at(
        cls, url: str, token: str, *, keeping_connections: int = 0, making_new_ones: int = 0
    ) -> AsyncIterator[Traffic]:
        """As long as the block lasts, so many people of each kind; then their last answers."""
        traffic = cls(url, token)
        habits = [True] * keeping_connections + [False] * making_new_ones
        traffic._people = [asyncio.create_task(traffic._person(habit)) for habit in habits]
        try:
            yield traffic
        finally:
            await traffic.end()

    async def end(self) -> None:
        """Let everybody have their last answer, and leave."""
        self._over = True
        await asyncio.gather(*self._people)

    async def until(self, requests: int) -> None:
        """Wait until so many have been answered, or one was not."""
        while True:
            if self.requests >= requests or self.failures:
                return
            await asyncio.sleep(0.05)

    @property
    def in_doubt(self) -> list[str]:
        """The tasks of which nobody was told whether the last change was made."""
        return [title for title, possible in self.ledger.items() if len(possible) > 1]

    def assert_flawless(self) -> None:
        """Nobody was turned away."""
        assert not self.failures, (
            f"{len(self.failures)} of {self.requests} failed: {self.failures[:5]}"
        )

    async def assert_stored(self, sql: asyncpg.Connection) -> None:
        """What was acknowledged is stored, once; what was not, at most once."""
        stored: dict[str, list[int]] = {}
        for title, version in await sql.fetch("SELECT title, version FROM tasks"):
            stored.setdefault(title, []).append(version)
        wrong = {
            title: (found, possible)
            for title, possible in self.ledger.items()
            for found in [stored.get(title, [ABSENT])]
            if len(found) > 1 or found[0] not in possible
        }
        assert not wrong, f"{len(wrong)} tasks are not as told (stored, possible): {wrong}"
        assert stored.keys() <= self.ledger.keys()

    async def _person(self, keeps_connections: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps_connections else 0)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=20) as client:
            for door in cycle((RestSurface(client), GraphQLSurface(client))):
                if self._over:
                    return
                try:
                    await self._life_of_a_task(door)
                except (httpx.TransportError, Refused, ValueError) as error:
                    self.failures.append(f"{type(door).__name__}: {error!r}")
                    await asyncio.sleep(0.02)

    async def _life_of_a_task(self, door: Surface) -> None:
        """Make it, look at it, change it, find it in the list, and sometimes delete it."""
        title = secrets.token_hex(8)
        self.ledger[title] = possible = {ABSENT, 1}
        task = await self._counted(door.create_task(self.token, {"title": title}))
        possible.discard(ABSENT)
        await self._counted(door.get_task(self.token, task.id))
        possible.add(2)
        await self._counted(door.change_task(self.token, task.id, {"completed": True}, None))
        possible.discard(1)
        await self._counted(door.list_tasks(self.token, limit=5))
        if int(title, 16) % 4 == 0:
            possible.add(ABSENT)
            await self._counted(door.delete_task(self.token, task.id, 2))
            possible.discard(2)

    async def _counted(self, asked: Awaitable[Given]) -> Given:
        self.requests += 1
        return await asked
