"""The inputs and arguments of tasks in GraphQL. ``persistence.task_inputs`` validates them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import strawberry
from pydantic import BaseModel, BeforeValidator, Field
from strawberry import ID, UNSET

from graphql_schema.compiled import AS_MEMBERS
from graphql_schema.task_types import Due, Moment
from persistence.field_types import text_integer
from persistence.task_fields import Priority
from persistence.task_inputs import MAX_PAGE

_TAGS: Final = "At most 20, each trimmed of white space, 1 to 50 characters, no comma."


@strawberry.input(description="Which tasks to list.")
class TaskFilter:
    """Validated by ``persistence.task_inputs.TaskFilter``."""

    completed: bool | None = strawberry.field(
        default=UNSET, description="Only tasks that are done, or only those that are not."
    )
    priority: list[Priority] | None = strawberry.field(
        default=UNSET, description="Only tasks with one of these priorities."
    )
    tags: list[str] | None = strawberry.field(
        default=UNSET, description="Only tasks with all of these tags, in any case."
    )
    has_due: bool | None = strawberry.field(
        default=UNSET,
        description="Only tasks that are due some time, or only the others.",
    )
    due_from: Due | None = strawberry.field(
        default=UNSET, description="Only tasks that are due on this day, at this time, or later."
    )
    due_before: Due | None = strawberry.field(
        default=UNSET, description="Only tasks that are due before this day or time."
    )
    zone: str | None = strawberry.field(
        default=UNSET,
        description="The IANA time zone in which a day begins, for `due…`; default UTC.",
    )
    created_from: Moment | None = strawberry.field(
        default=UNSET, description="Only tasks that were made at this time or later."
    )
    created_before: Moment | None = strawberry.field(
        default=UNSET, description="Only tasks that were made before this time."
    )
    updated_from: Moment | None = strawberry.field(
        default=UNSET, description="Only tasks that were last changed at this time or later."
    )
    updated_before: Moment | None = strawberry.field(
        default=UNSET, description="Only tasks that were last changed before this time."
    )
    q: str | None = strawberry.field(
        default=UNSET,
        description="Only tasks with every one of these words in title or description, anywhere "
        "in a word; case, accents and width do not matter.",
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
    due: Due | None = strawberry.field(default=UNSET, description="When the task is due.")
    priority: Priority = strawberry.field(
        default=Priority.NONE, description="How much the task matters."
    )
    tags: list[str] = strawberry.field(default_factory=list, description=_TAGS)


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
    due: Due | None = strawberry.field(default=UNSET, description="Null clears it.")
    priority: Priority | None = strawberry.field(
        default=UNSET, description="How much the task matters. Not null."
    )
    tags: list[str] | None = strawberry.field(
        default=UNSET, description=f"{_TAGS} They replace all that the task has. Not null."
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


def members_of(type_: Any, description: str) -> Any:
    """The annotation of an argument whose members the resolver gets, by their names.

    Args:
        type_: one of the inputs above, a list of one, or one that may be absent.
    """
    return strawberry.argument(
        description=description, graphql_type=type_, metadata={AS_MEMBERS: True}
    )


Id = Annotated[ID, argument("The task's id.")]
IdempotencyKey = Annotated[
    str | None, argument("Do this once: a repeat with the same key gets the first outcome.")
]
ExpectedVersion = Annotated[int | None, argument("Only at this version.")]
