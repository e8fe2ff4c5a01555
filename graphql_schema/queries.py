"""What can be read. Each resolver is the sentence that REST's route is, through the other door."""

from __future__ import annotations

from typing import Final

import strawberry
from strawberry import ID, UNSET

from graphql_schema.context import Info
from graphql_schema.types import Listed, Task, TaskConnection, TaskFilter, Viewer, given
from persistence import tasks
from persistence.errors import FieldError, InvalidInput, NotFound
from persistence.sessions.layouts import Viewer as Session
from persistence.task_inputs import Page, parse, parse_task_id

PAGE: Final = 50
"""How many tasks a list has where the client does not say."""

_SPELLING: Final = {"limit": "first", "cursor": "after", "completed": "filter.completed"}


def _require_at_most(most: int, first: int) -> None:
    """The setting's page size; the schema's own is validated with everything else."""
    if first > most:
        message = f"Input should be less than or equal to {most}"
        raise InvalidInput([FieldError("first", message, "less_than_equal", first)])


@strawberry.type(description="What can be read. Each field costs one read.")
class Query:
    """The root of queries."""

    @strawberry.field(
        graphql_type=Task | None, description="One of your tasks; null when you have no such task."
    )
    async def task(self, info: Info, id: ID) -> tasks.Task | None:
        """Read one."""
        try:
            task_id = parse_task_id(id, "id")
            return await tasks.get(info.context.db, info.context.viewer, task_id)
        except NotFound:
            return None

    @strawberry.field(graphql_type=TaskConnection, description="Your tasks, newest first.")
    async def tasks(
        self,
        info: Info,
        first: int | None = PAGE,
        after: str | None = UNSET,
        filter: TaskFilter | None = UNSET,
    ) -> Listed:
        """List them, a page at a time."""
        wanted = {
            "limit": PAGE if first is None else first,
            "cursor": None if after is UNSET else after,
        }
        page = parse(Page, wanted | (given(filter) if filter else {}), _SPELLING)
        _require_at_most(info.context.max_page, page.limit)
        return Listed(page, await tasks.list_page(info.context.db, info.context.viewer, page))

    @strawberry.field(graphql_type=Viewer, description="You, as this request knows you.")
    async def viewer(self, info: Info) -> Session:
        """Say who is asking."""
        return info.context.viewer
