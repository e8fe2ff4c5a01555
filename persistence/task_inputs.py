"""What a client may send about tasks: bodies, filters and pages. Knows no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, NewType

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema

from persistence.cursors import (
    CURSOR_SCHEMA,
    TRASH,
    TRASH_CURSOR_SCHEMA,
    Cursor,
    Position,
    TrashCursor,
    decode_cursor,
)
from persistence.task_fields import READ_ONLY, EditableFields, Title
from persistence.validation import (
    Body,
    describe_changes,
    describe_read_only,
    json_integer,
    parse_id,
    text_boolean,
    text_integer,
)

MAX_PAGE: Final = 1000
"""The most tasks in one page, and the most ids in one bulk change or deletion."""

MAX_NEW: Final = 100
"""The most tasks that one request creates."""

TaskId = NewType("TaskId", int)
"""1 to ``persistence.validation.MAX_ID``."""


class _TaskBody(Body):
    READ_ONLY: ClassVar[Mapping[str, Any]] = READ_ONLY


class NewTask(_TaskBody, EditableFields):
    """What a new task starts with."""

    model_config = ConfigDict(json_schema_extra=describe_read_only)


class TaskChanges(_TaskBody, EditableFields):
    """What to change about a task: what is absent stays, null clears (RFC 7396)."""

    model_config = ConfigDict(json_schema_extra=describe_changes)

    # Nothing is required here. No default is ever read: see ``provided()``.
    title: Title = ""


class TaskFilter(BaseModel):
    """Which tasks to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completed: Annotated[
        StrictBool | None,
        BeforeValidator(text_boolean),
        Field(
            description="Only tasks that are done (`true`), or only those that are not (`false`)."
        ),
        WithJsonSchema({"type": "boolean"}),
    ] = None


Limit = Annotated[
    int,
    # The bounds first: behind a validator they would not reach the JSON schema.
    Field(ge=1, le=MAX_PAGE, description="The most tasks to answer with."),
    BeforeValidator(text_integer),
]
EmptyableLimit = Annotated[int, Field(ge=0, le=MAX_PAGE), BeforeValidator(text_integer)]


class Page(TaskFilter):
    """A part of the list: the first ``limit`` tasks that pass the filter, after ``cursor``."""

    limit: Limit = MAX_PAGE
    cursor: Annotated[
        Cursor | None,
        Field(description="From the `next` link of an earlier answer."),
        CURSOR_SCHEMA,
    ] = None

    backward: ClassVar[bool] = False
    """Whether the page ends before the cursor, instead of starting after it."""

    @property
    def position(self) -> Position | None:
        """The position of the cursor; ``None`` means the list's start, or its end if backward."""
        return decode_cursor(self.cursor) if self.cursor is not None else None


class EmptyablePage(Page):
    """A page that may have no tasks at all, for a count alone."""

    limit: EmptyableLimit = MAX_PAGE


class BackwardPage(EmptyablePage):
    """The last ``limit`` tasks that pass the filter, before ``cursor``; newest first, too."""

    backward: ClassVar[bool] = True


TaskIds = Annotated[
    list[Annotated[int, BeforeValidator(json_integer)]],
    Field(
        min_length=1,
        max_length=MAX_PAGE,
        description="1 to 1000 ids; one given twice counts once.",
        examples=[[1, 2, 3]],
    ),
]


class TrashPage(BaseModel):
    """A part of the trash: the first ``limit`` tasks after ``cursor``, last deleted first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Limit = MAX_PAGE
    cursor: Annotated[
        TrashCursor | None,
        Field(description="From the `next` link of an earlier answer."),
        TRASH_CURSOR_SCHEMA,
    ] = None

    @property
    def position(self) -> Position | None:
        """The position of the cursor; ``None`` means the start of the trash."""
        return decode_cursor(self.cursor, TRASH) if self.cursor is not None else None


class EmptyableTrashPage(TrashPage):
    """A page that may have no tasks at all, for a count alone."""

    limit: EmptyableLimit = MAX_PAGE


class BulkDelete(BaseModel):
    """Which tasks to delete at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_ids: TaskIds


class BulkUpdate(BaseModel):
    """Which tasks to change at once, and what to change about each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_ids: TaskIds
    changes: Annotated[TaskChanges, Field(description="What you leave out stays as it is.")]


class BulkCreate(BaseModel):
    """Tasks to create at once: all of them, or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Annotated[
        list[NewTask],
        Field(
            min_length=1,
            max_length=MAX_NEW,
            description="1 to 100 tasks, in the order given.",
        ),
    ]


def parse_task_id(text: str, field: str = "task_id") -> TaskId:
    """A task's id from its text: see ``persistence.validation.parse_id``."""
    return TaskId(parse_id(text, "Task", field))
