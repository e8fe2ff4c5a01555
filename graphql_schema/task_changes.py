"""What changed of one's tasks: the type and the query field. Knows no SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import strawberry
from strawberry import UNSET

import persistence.tasks
from graphql_schema.compiled import DeclaredSize, SlicingArgument
from graphql_schema.connections import DEFAULT_PAGE_SIZE
from graphql_schema.context import Info
from graphql_schema.task_types import Task
from persistence import feeds
from persistence.errors import FieldError
from persistence.sync_tokens import encode_token
from persistence.task_inputs import MAX_PAGE, ChangesPage
from persistence.validation import ErrorCollector


@strawberry.type(description="Tasks that changed, in the order of their last change.")
class TaskChanges:
    """Resolved from ``persistence.feeds.Changes``."""

    @strawberry.field(graphql_type=list[Task], description="Each task once, as it is now.")
    def changes(self, parent: strawberry.Parent[feeds.Changes]) -> list[persistence.tasks.Task]:
        """The tasks."""
        return parent.tasks

    @strawberry.field(description="The next `since`, once you applied these.")
    def token(self, parent: strawberry.Parent[feeds.Changes]) -> str:
        """The token of what comes after them."""
        return encode_token(parent.token)

    has_more: bool = strawberry.field(description="Whether there are more after the token.")


def list_sizes(max_page: int) -> dict[str, DeclaredSize | list[SlicingArgument]]:
    """The size of the list field above.

    Args:
        max_page: the most tasks in one page.
    """
    page = SlicingArgument("Query.taskChanges", "first", max_page, DEFAULT_PAGE_SIZE)
    return {"TaskChanges.changes": page}


Since = Annotated[str | None, strawberry.argument(description="From an earlier response.")]
First = Annotated[int | None, strawberry.argument(description="How many, 1 to 1000.")]


@strawberry.type
class TaskChangesQueries:
    """The query field of changes."""

    @strawberry.field(
        graphql_type=TaskChanges,
        description="Your tasks that changed since a token; without one, all that you have.",
    )
    async def task_changes(
        self,
        info: Info,
        since: Since = UNSET,
        first: First = DEFAULT_PAGE_SIZE,
    ) -> feeds.Changes:
        """Read the changes, one page at a time."""
        page = changes_page(since, first, info.context.max_page)
        return await feeds.changes(info.context.db, info.context.viewer, page.position, page.limit)


@strawberry.type
class TaskChangesSubscriptions:
    """The subscription field of changes."""

    @strawberry.subscription(
        graphql_type=TaskChanges,
        description="Your tasks that change, as they do: after a token, or from now on. The first "
        "message comes at once. By server-sent events or over a WebSocket.",
    )
    async def task_changes(self, since: Since = UNSET) -> AsyncIterator[feeds.Changes]:
        """Not called: ``graphql_schema.subscriptions`` reads the feed."""
        nothing: tuple[feeds.Changes, ...] = ()
        for changes in nothing:
            yield changes


def changes_page(since: str | None, first: int | None, max_page: int) -> ChangesPage:
    """The arguments of ``taskChanges``.

    Args:
        max_page: the most tasks in one page.

    Raises:
        InvalidInput: one of them is invalid.
    """
    limit = DEFAULT_PAGE_SIZE if first is None or first is UNSET else first
    arguments = {"since": None if since is UNSET else since, "limit": limit}
    collector = ErrorCollector()
    page: ChangesPage = collector.validate(ChangesPage, arguments, {"limit": "first"})
    if max_page < limit <= MAX_PAGE:
        message = f"Input should be less than or equal to {max_page}"
        collector.add([FieldError("first", message, "less_than_equal", limit)])
    collector.raise_errors()
    return page
