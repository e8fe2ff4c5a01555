"""The inputs and arguments of tasks in GraphQL."""

from __future__ import annotations

from typing import Annotated, Any

import strawberry
from pydantic import BaseModel, BeforeValidator, Field
from strawberry import ID, UNSET

from persistence.task_inputs import (
    MAX_PAGE,
)
from persistence.validation import text_integer


@strawberry.input(description="Which tasks to list.")
class TaskFilter:
    """Validated by ``persistence.task_inputs.TaskFilter``."""

    completed: bool | None = strawberry.field(
        default=UNSET, description="Only tasks that are done, or only those that are not."
    )


@strawberry.input(description="What a new task starts with.")
class CreateTaskInput:
    """Validated by ``persistence.task_inputs.NewTask``."""

    title: str = strawberry.field(description="Trimmed of white space, then 1 to 200 characters.")
    description: str | None = strawberry.field(
        default=UNSET, description="At most 1000 characters. Blank is the same as null."
    )
    completed: bool = strawberry.field(
        default=False, description="Whether the task is done already."
    )


@strawberry.input(description="What to change: what is absent stays as it is.")
class UpdateTaskInput:
    """Validated by ``persistence.task_inputs.TaskChanges``."""

    title: str | None = strawberry.field(
        default=UNSET, description="Trimmed of white space, then 1 to 200 characters. Not null."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="At most 1000 characters. Null or blank clears it."
    )
    completed: bool | None = strawberry.field(
        default=UNSET, description="Whether the task is done. Not null."
    )


class Ids(BaseModel):
    """The argument of ``updateTasks`` and ``deleteTasks``. GraphQL's ``ID`` is text."""

    ids: Annotated[
        list[Annotated[int, BeforeValidator(text_integer)]],
        Field(min_length=1, max_length=MAX_PAGE),
    ]


def argument(description: str) -> Any:
    """The annotation of an argument."""
    return strawberry.argument(description=description)


Id = Annotated[ID, argument("The task's id.")]
IdempotencyKey = Annotated[
    str | None, argument("Do this once: a repeat with the same key gets the first outcome.")
]
ExpectedVersion = Annotated[int | None, argument("Only at this version.")]
