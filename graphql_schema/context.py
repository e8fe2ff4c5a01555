"""What resolvers are given: who asks, the way to the database, and the budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import strawberry

from api.rate_limit.budget import Budget
from persistence.database import Database
from persistence.viewer import Viewer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One request's. Sibling fields run concurrently; each statement has its own connection.

    ``max_page`` is the most tasks that a page may have here.
    """

    viewer: Viewer
    db: Database
    budget: Budget
    max_page: int
    _tasks: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    async def once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do some work once a request, however many fields and aliases ask for it.

        Args:
            key: what is the same for all of them.
            work: starts it. Whatever it raises, all of them raise.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
        result: T = await task
        return result


Info = strawberry.Info[Context, None]
