"""What resolvers share for one request: the viewer, the database and the budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import strawberry
from strawberry import UNSET

from api.rate_limit.budget import Budget
from persistence.database import Database
from persistence.errors import FieldError, InvalidInput
from persistence.idempotency import HEADER, IdempotentWrite, fingerprint, parse_key
from persistence.viewer import Viewer

T = TypeVar("T")

KEY_ARGUMENT: Final = "idempotencyKey"
"""The name of the argument."""


@dataclass(frozen=True, slots=True)
class Context:
    """The state of one request. Sibling fields run concurrently, each on its own connection.

    Attributes:
        max_page: the most rows in one page, from the settings.
        idempotency_hours: how long the outcome of a key is kept.
        header_key: the key in the header ``Idempotency-Key``, for the only mutation field.
        idempotent_writes: those of the fields with a key, by their names in the response.
    """

    viewer: Viewer
    db: Database
    budget: Budget
    max_page: int
    idempotency_hours: int
    header_key: str | None
    idempotent_writes: dict[str, IdempotentWrite]
    _tasks: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    def key(self, argument: str | None) -> str | None:
        """The idempotency key of a mutation field.

        Args:
            argument: the field's ``idempotencyKey``; ``None`` or ``UNSET`` where there is none.

        Raises:
            InvalidInput: it is none, or another one than the header's.
        """
        if argument is None or argument is UNSET:
            return self.header_key
        key = parse_key(argument, KEY_ARGUMENT)
        if self.header_key not in (None, key):
            message = f"Should be the key in the header {HEADER}"
            raise InvalidInput([FieldError(KEY_ARGUMENT, message, "idempotency_key", argument)])
        return key

    def idempotent_write(
        self, info: Info, key: str | None, *content: Any
    ) -> IdempotentWrite | None:
        """The write of a mutation field that has an idempotency key; ``None`` without a key.

        Args:
            content: the field's arguments, validated.
        """
        if key is None:
            return None
        digest = fingerprint("graphql", info.field_name, *content)
        write = IdempotentWrite(key, digest, self.idempotency_hours)
        self.idempotent_writes[str(info.path.key)] = write
        return write

    async def once_a_request(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
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
