"""What resolvers share for one request: the viewer, the database and the budgets."""

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
    """The state of one request. Sibling fields run concurrently, each on its own connection.

    Attributes:
        max_page: the most rows in one page, from the settings.
    """

    viewer: Viewer
    db: Database
    budget: Budget
    max_page: int
    _tasks: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    async def once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run some work once in a request, for all fields and aliases that need its result.

        Args:
            key: identifies the work.
            work: creates the coroutine. Every caller gets its result or its exception.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
        result: T = await task
        return result


Info = strawberry.Info[Context, None]
