"""What can be written. Each resolver is the sentence that REST's route is, through the other door.

Fields are nullable, so that a second field's failure does not hide a first one's committed write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import strawberry
from pydantic import BaseModel, BeforeValidator, Field
from strawberry import ID, UNSET

from graphql_schema.context import Info
from graphql_schema.types import (
    CreateTaskInput,
    DeleteTasksResult,
    Task,
    UpdateTaskInput,
    given,
)
from persistence import tasks
from persistence.task_inputs import MAX_PAGE, NewTask, TaskChanges, parse_task_id
from persistence.validation import text_integer, validate


class _DeleteTasks(BaseModel):
    """``deleteTasks``: GraphQL's ``ID`` is text."""

    ids: Annotated[
        list[Annotated[int, BeforeValidator(text_integer)]],
        Field(min_length=1, max_length=MAX_PAGE),
    ]


@strawberry.type(description="What can be written. Each field costs one write.")
class Mutation:
    """The root of mutations."""

    @strawberry.mutation(graphql_type=Task | None, description="Add a task to your list.")
    async def create_task(self, info: Info, input: CreateTaskInput) -> tasks.Task:
        """Create one."""
        new = validate(NewTask, given(input))
        return await tasks.create(info.context.db, info.context.viewer, new)

    @strawberry.mutation(
        graphql_type=Task | None,
        description="Change one of your tasks; with `expectedVersion` only at that version.",
    )
    async def update_task(
        self, info: Info, id: ID, input: UpdateTaskInput, expected_version: int | None = UNSET
    ) -> tasks.Task:
        """Change one."""
        changes = validate(TaskChanges, given(input))
        return await tasks.change(
            info.context.db,
            info.context.viewer,
            parse_task_id(id, "id"),
            changes,
            _versions(expected_version),
        )

    @strawberry.mutation(
        graphql_type=Task | None,
        description="Delete one of your tasks, and see it as it was; with `expectedVersion` only "
        "at that version.",
    )
    async def delete_task(
        self, info: Info, id: ID, expected_version: int | None = UNSET
    ) -> tasks.Task:
        """Delete one."""
        return await tasks.remove(
            info.context.db,
            info.context.viewer,
            parse_task_id(id, "id"),
            _versions(expected_version),
        )

    @strawberry.mutation(
        graphql_type=DeleteTasksResult | None,
        description="Delete 1 to 1000 of your tasks at once; an id given twice counts once.",
    )
    async def delete_tasks(self, info: Info, ids: list[ID]) -> tasks.Deleted:
        """Delete many."""
        deletion = validate(_DeleteTasks, {"ids": ids})
        return await tasks.remove_many(info.context.db, info.context.viewer, deletion.ids)


def _versions(expected: int | None) -> Sequence[int] | None:
    return None if expected is None or expected is UNSET else [expected]
