"""Users of both APIs who send their next request at once: what failed, and what must be stored.

No request is sent a second time: a refused connection counts as a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import TypeVar

import httpx

from tests.drills.ledger import ABSENT, Ledger
from tests.surfaces import ApiError, GraphQLSurface, RestSurface, Surface

Result = TypeVar("Result")


@dataclass(slots=True)
class Traffic:
    """The users' requests so far, and those that failed.

    Attributes:
        ledger: what was acknowledged.
    """

    url: str
    token: str
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    _is_over: bool = False
    _users: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def at(
        cls, url: str, token: str, *, keeping_connections: int = 0, making_new_ones: int = 0
    ) -> AsyncIterator[Traffic]:
        """So many users of each kind for as long as the block lasts, and until their last response.

        Args:
            keeping_connections: users who keep their connection.
            making_new_ones: users who open a connection for each request.
        """
        traffic = cls(url, token)
        habits = [True] * keeping_connections + [False] * making_new_ones
        traffic._users = [asyncio.create_task(traffic._use(habit)) for habit in habits]
        try:
            yield traffic
        finally:
            await traffic.end()

    async def end(self) -> None:
        """Wait for everyone's last response."""
        self._is_over = True
        await asyncio.gather(*self._users)

    async def until(self, requests: int) -> None:
        """Wait until so many requests were sent, or one has failed."""
        while self.requests < requests and not self.failures:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)

    def assert_flawless(self) -> None:
        """Require that every request succeeded."""
        assert not self.failures, (
            f"{len(self.failures)} of {self.requests} failed: {self.failures[:5]}"
        )

    async def _use(self, keeps_connections: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps_connections else 0)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=20) as client:
            for surface in cycle((RestSurface(client), GraphQLSurface(client))):
                if self._is_over:
                    return
                try:
                    await self._use_one_task(surface)
                except (httpx.TransportError, ApiError, ValueError) as error:
                    self.failures.append(f"{surface.api}: {error!r}")
                    await asyncio.sleep(0.02)

    async def _use_one_task(self, surface: Surface) -> None:
        """Create a task, read it, change it, list it, and delete every fourth."""
        ledger, title = self.ledger, self.ledger.new_title()
        ledger.sent(title, 1)
        task = await self._counted(surface.create_task(self.token, {"title": title}))
        ledger.acknowledged(title, 1)
        await self._counted(surface.get_task(self.token, task.id))
        ledger.sent(title, 2)
        await self._counted(surface.change_task(self.token, task.id, {"completed": True}, None))
        ledger.acknowledged(title, 2)
        await self._counted(surface.list_tasks(self.token, limit=5))
        if int(title, 16) % 4 == 0:
            ledger.sent(title, ABSENT)
            await self._counted(surface.delete_task(self.token, task.id, 2))
            ledger.acknowledged(title, ABSENT)

    async def _counted(self, request: Awaitable[Result]) -> Result:
        self.requests += 1
        return await request
