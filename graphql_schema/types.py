"""The types that clients see, and what resolvers make them from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import strawberry
from strawberry import ID, UNSET

from api.rate_limit.budget import Kind, viewer_payer
from api.rate_limit.sliding_window import WindowState
from graphql_schema.context import Context, Info
from persistence import tasks
from persistence.cursors import encode_cursor
from persistence.task_inputs import Page
from persistence.viewer import Viewer as Session


@strawberry.type(description="A task of yours.")
class Task:
    """Made from ``persistence.tasks.Task``, whose attributes are these."""

    id: ID = strawberry.field(description="The same number as in REST.")
    user_id: ID = strawberry.field(description="The owner, as the auth server writes it.")
    title: str = strawberry.field(description="1 to 200 characters.")
    description: str | None = strawberry.field(description="At most 1000 characters.")
    completed: bool = strawberry.field(description="Whether the task is done.")
    version: int = strawberry.field(description="Starts at 1 and rises with every change.")
    created_at: datetime = strawberry.field(description="When the task was made.")
    updated_at: datetime = strawberry.field(description="When the task was last changed.")


@strawberry.type(description="A task in the list, and its place there.")
class TaskEdge:
    """Made from ``Edge``."""

    cursor: str = strawberry.field(description="Continues after this task; REST takes it, too.")
    node: Task


@strawberry.type(description="Where a page stands in the list.")
class PageInfo:
    """Made from ``Listed``, whose attributes are these."""

    has_next_page: bool = strawberry.field(description="Whether there are more tasks after these.")
    has_previous_page: bool = strawberry.field(description="Whether the page began at a cursor.")
    start_cursor: str | None = strawberry.field(description="Of the first task here.")
    end_cursor: str | None = strawberry.field(description="Of the last task here.")


@strawberry.type(description="A page of your tasks, newest first.")
class TaskConnection:
    """Made from ``Listed``."""

    edges: list[TaskEdge] = strawberry.field(description="The tasks, each with its cursor.")
    nodes: list[Task] = strawberry.field(description="The tasks.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")

    @strawberry.field(
        description="How many tasks pass the filter. One more SQL statement, only when selected."
    )
    async def total_count(self, parent: strawberry.Parent[Listed], info: Info) -> int:
        """Count what the whole list has."""
        context, page = info.context, parent.page
        # The same number for every page of the same filter.
        return await context.once(
            ("count", page.completed), lambda: tasks.count(context.db, context.viewer, page)
        )


class Edge:
    """A row of the list; its cursor is made when it is asked for."""

    __slots__ = ("node",)

    def __init__(self, node: tasks.Task) -> None:
        self.node = node

    @property
    def cursor(self) -> str:
        """The task's place in the list."""
        return encode_cursor(self.node.position)


@dataclass(frozen=True, slots=True)
class Listed:
    """A page as it was asked for and found; each part is made when it is selected."""

    page: Page
    found: tasks.TaskPage

    @property
    def nodes(self) -> list[tasks.Task]:
        """The tasks."""
        return self.found.tasks

    @property
    def edges(self) -> list[Edge]:
        """The tasks, each with its cursor."""
        return [Edge(task) for task in self.found.tasks]

    @property
    def page_info(self) -> Listed:
        """This page, as ``PageInfo`` reads it."""
        return self

    @property
    def has_next_page(self) -> bool:
        """Whether there are more tasks after these."""
        return self.found.has_more

    @property
    def has_previous_page(self) -> bool:
        """Whether the page began at a cursor, and so after some task."""
        return self.page.cursor is not None

    @property
    def start_cursor(self) -> str | None:
        """The place of the first task here."""
        return encode_cursor(self.nodes[0].position) if self.nodes else None

    @property
    def end_cursor(self) -> str | None:
        """The place of the last task here."""
        return encode_cursor(self.nodes[-1].position) if self.nodes else None


@strawberry.type(description="What is left of one of your budgets.")
class Budget:
    """Made from ``api.rate_limit.sliding_window.WindowState``."""

    limit: int = strawberry.field(description="How much there is, in any minute.")
    remaining: int = strawberry.field(description="How much of it is left now.")
    reset_at: datetime = strawberry.field(description="When everything is left again.")

    @classmethod
    def of(cls, window: WindowState) -> Budget:
        """The budget as a client sees it."""
        return cls(
            limit=window.limit.amount,
            remaining=window.remaining,
            reset_at=datetime.fromtimestamp(window.now + window.full_in, UTC),
        )


@strawberry.type(description="You.")
class Viewer:
    """Made from ``persistence.viewer.Viewer``."""

    user_id: ID = strawberry.field(description="As the auth server writes it.")
    session_expires_at: datetime = strawberry.field(description="When this session ends.")

    @strawberry.field(description="What you may still read. Shared with REST.")
    async def reads(self, parent: strawberry.Parent[Session], info: Info) -> Budget:
        """Look, without spending."""
        return await _look(info.context, parent, Kind.READ)

    @strawberry.field(description="What you may still write. Shared with REST.")
    async def writes(self, parent: strawberry.Parent[Session], info: Info) -> Budget:
        """Look, without spending."""
        return await _look(info.context, parent, Kind.WRITE)


async def _look(context: Context, viewer: Session, kind: Kind) -> Budget:
    look = context.budget.look
    return Budget.of(await context.once(kind, lambda: look(viewer_payer(viewer), kind)))


@strawberry.type(description="What a bulk deletion did, each in the order asked.")
class DeleteTasksResult:
    """Made from ``persistence.tasks.Deleted``, whose attributes are these."""

    deleted: list[ID] = strawberry.field(description="The tasks that are gone now.")
    not_found: list[ID] = strawberry.field(description="The ids of no task of yours.")


@strawberry.input(description="Which tasks to list.")
class TaskFilter:
    """See ``persistence.task_inputs.TaskFilter``."""

    completed: bool | None = strawberry.field(
        default=UNSET, description="Only tasks that are done, or only those that are not."
    )


@strawberry.input(description="What a new task starts with.")
class CreateTaskInput:
    """See ``persistence.task_inputs.NewTask``."""

    title: str = strawberry.field(description="Trimmed of white space, then 1 to 200 characters.")
    description: str | None = strawberry.field(
        default=UNSET, description="At most 1000 characters. Blank is the same as null."
    )
    completed: bool | None = strawberry.field(
        default=False, description="Whether the task is done already. Not null."
    )


@strawberry.input(description="What to change: what is absent stays as it is.")
class UpdateTaskInput:
    """See ``persistence.task_inputs.TaskChanges``."""

    title: str | None = strawberry.field(
        default=UNSET, description="Trimmed of white space, then 1 to 200 characters. Not null."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="At most 1000 characters. Null or blank clears it."
    )
    completed: bool | None = strawberry.field(
        default=UNSET, description="Whether the task is done. Not null."
    )


def given(source: Any) -> dict[str, Any]:
    """The members of an input that the client sent; absent and null differ."""
    return {name: value for name, value in vars(source).items() if value is not UNSET}
