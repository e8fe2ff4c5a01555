"""The types of tasks in GraphQL, and the sizes of their lists."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NewType

import strawberry
from graphql import GraphQLError
from graphql.pyutils import inspect
from strawberry import ID

from api.charges import TASKS_A_WRITE
from graphql_schema.compiled import DeclaredSize, InputList, LeafList, SlicingArgument
from graphql_schema.connections import DEFAULT_PAGE_SIZE, PageInfo, PageView
from graphql_schema.context import Info
from persistence import tasks
from persistence.instants import rfc3339
from persistence.sync_tokens import SyncToken, encode_token
from persistence.tables import MAX_TAGS
from persistence.task_fields import Priority
from persistence.task_inputs import MAX_NEW, MAX_PAGE
from persistence.task_orders import TaskOrder


def _require_text(type_: str, value: object) -> str:
    # What the text says is validated with everything else, and reported by field.
    if not isinstance(value, str):
        raise GraphQLError(f"{type_} cannot represent a non string value: {inspect(value)}")
    return value


Due = NewType("Due", str)
"""A day, or a moment (``persistence.due``)."""

Moment = NewType("Moment", str)
"""A moment that a client sends."""

DUE: Final = strawberry.scalar(
    name="Due",
    description="A day (`2025-12-10`), or a time with its offset (RFC 3339), answered in UTC with "
    "six fractional digits and `Z`.",
    serialize=str,
    parse_value=partial(_require_text, "Due"),
)

DATE_TIME: Final = strawberry.scalar(
    name="DateTime",
    description="An instant: RFC 3339 in UTC, with six fractional digits and `Z`.",
    specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    serialize=rfc3339,
    parse_value=partial(_require_text, "DateTime"),
)

strawberry.enum(Priority, description="How much a task matters.")
strawberry.enum(
    TaskOrder, description="How tasks are ordered; their ids follow, in the same direction."
)


@strawberry.interface(description="What `node` reads: a task.")
class Node:
    """What has an id of its own: tasks only."""

    @classmethod
    def resolve_type(cls, *_: object) -> str:
        """The name of the type that a node has."""
        return "Task"

    id: ID = strawberry.field(description="The same number as in REST.")


@strawberry.type(description="A task of yours.")
class Task(Node):
    """Resolved from ``persistence.tasks.Task``, whose attributes have these names."""

    id: ID = strawberry.field(description="The same number as in REST.")
    user_id: ID = strawberry.field(description="The owner, as the auth server writes it.")
    title: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(description="At most 1000 characters.")
    completed: bool = strawberry.field(description="Whether the task is done.")
    due: Due | None = strawberry.field(description="When the task is due.")
    priority: Priority = strawberry.field(description="How much the task matters.")
    tags: list[str] = strawberry.field(description="At most 20, in the order of its owner.")
    version: int = strawberry.field(description="Starts at 1 and rises with every change.")
    created_at: datetime = strawberry.field(description="When the task was made.")
    updated_at: datetime = strawberry.field(description="When the task was last changed.")
    completed_at: datetime | None = strawberry.field(
        description="When the task was completed; null while it is not."
    )
    deleted_at: datetime | None = strawberry.field(
        description="When the task was deleted; null but in the trash."
    )


@strawberry.type(description="A task in the list, and its place there.")
class TaskEdge:
    """Resolved from ``connections.Edge``."""

    cursor: str = strawberry.field(description="Continues after this task; REST takes it, too.")
    node: Task = strawberry.field(description="The task.")


@strawberry.type(description="A page of your tasks, newest first.")
class TaskConnection:
    """Resolved from ``TaskPageView``."""

    edges: list[TaskEdge] = strawberry.field(description="The tasks, each with its cursor.")
    nodes: list[Task] = strawberry.field(description="The tasks.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")

    @strawberry.field(description="What changes after this page: `taskChanges(since:)` with this.")
    def sync_token(self, parent: strawberry.Parent[TaskPageView]) -> str:
        """The token that was read in the same statement as the page."""
        return encode_token(parent.token)

    @strawberry.field(
        description="How many tasks pass the filter. One more SQL statement, only when selected."
    )
    async def total_count(self, parent: strawberry.Parent[TaskPageView], info: Info) -> int:
        """Count the tasks of the whole list, not only of this page."""
        # The number is the same for every page of the same list.
        return await info.context.once_a_request(parent.list_key, parent.count)


@dataclass(frozen=True, slots=True)
class TaskPageView(PageView[tasks.Task]):
    """A page of tasks, and what counts the list that it is a part of.

    Attributes:
        token: of the changes after the page.
        list_key: identifies the list within the request.
    """

    token: SyncToken
    list_key: Hashable
    count: Callable[[], Coroutine[Any, Any, int]]


@strawberry.type(description="What a bulk deletion did, each in the order sent.")
class DeleteTasksResult:
    """Resolved from ``persistence.tasks.Deleted``, whose attributes have these names."""

    deleted: list[ID] = strawberry.field(description="The tasks that are gone now.")
    not_found: list[ID] = strawberry.field(description="The ids of no task of yours.")


@strawberry.type(description="What a bulk change did, each in the order sent.")
class UpdateTasksResult:
    """Resolved from ``persistence.tasks.Updated``, whose attributes have these names."""

    updated: list[Task] = strawberry.field(description="The tasks as they are now.")
    not_found: list[ID] = strawberry.field(description="The ids of no task of yours.")


def list_sizes(max_page: int) -> dict[str, DeclaredSize | list[SlicingArgument]]:
    """The size of each list field of the types above.

    Args:
        max_page: the most tasks in one page.
    """
    page = [
        SlicingArgument("Query.tasks", "first last", max_page, DEFAULT_PAGE_SIZE),
        SlicingArgument("Query.trash", "first", max_page, DEFAULT_PAGE_SIZE),
    ]
    ids = InputList("Mutation.deleteTasks", "ids")
    updated = SlicingArgument("Mutation.updateTasks", "ids", MAX_PAGE)
    created = SlicingArgument("Mutation.createTasks", "inputs", MAX_NEW, items_a_unit=TASKS_A_WRITE)
    return {
        "Task.tags": LeafList(MAX_TAGS),
        "Mutation.createTasks": created,
        "UpdateTasksResult.updated": updated,
        "UpdateTasksResult.notFound": InputList("Mutation.updateTasks", "ids"),
        "TaskConnection.edges": page,
        "TaskConnection.nodes": page,
        "DeleteTasksResult.deleted": ids,
        "DeleteTasksResult.notFound": ids,
    }
