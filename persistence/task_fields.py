"""A task's fields: what is stored, and which of them a client may write.

INSERT, UPDATE, the request bodies and the encoders follow from these two classes and from the
columns in ``persistence.tables``. ``tests/test_task_fields.py`` names a forgotten declaration.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

import msgspec
from pydantic import AfterValidator, BaseModel, Field, StrictBool, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.due import DUE_SCHEMA, canonical_due
from persistence.field_types import NOT_WHITE_SPACE, WITHOUT_NUL, blank_to_none
from persistence.tables import DESCRIPTION_LENGTH, MAX_TAGS, PRIORITIES, TAG_LENGTH, TITLE_LENGTH


class Task(msgspec.Struct, frozen=True, gc=False):
    """One task, as clients read it. Timestamps are in UTC; ``version`` starts at 1.

    Attributes:
        due: a day (``YYYY-MM-DD``), or a moment in UTC with six fractional digits and ``Z``.
        priority: the value of a ``Priority``.
        completed_at: when it was completed; ``None`` while it is not.
        deleted_at: ``None``: it is not in the trash.
    """

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: datetime
    updated_at: datetime
    # Newer fields come last and have defaults: outcomes of idempotency keys are rows as the
    # release before returned them.
    due: str | None = None
    priority: str = "none"
    tags: list[str] = []
    completed_at: datetime | None = None
    deleted_at: ClassVar[datetime | None] = None


class DeletedTask(Task, frozen=True, gc=False, kw_only=True):
    """A task in the trash.

    Attributes:
        deleted_at: when it was put there.
    """

    deleted_at: datetime  # type: ignore[misc]  # a class's in the class above


TEXT_PATTERN: Final = rf"^[^\x00]*{NOT_WHITE_SPACE}[^\x00]*$"
"""Text that is not blank, as a regular expression of ECMA-262."""

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_LENGTH),
    WITHOUT_NUL,
    Field(
        description="Trimmed of white space, then 1 to 200 characters.",
        examples=["Water the plants"],
        json_schema_extra={"pattern": TEXT_PATTERN},
    ),
]

Description = Annotated[
    Annotated[
        str,
        StringConstraints(max_length=DESCRIPTION_LENGTH),
        WITHOUT_NUL,
        AfterValidator(blank_to_none),
        Field(json_schema_extra={"pattern": r"^[^\x00]*$"}),
    ]
    | None,
    Field(
        description="At most 1000 characters, kept as sent. Blank is the same as null.",
        examples=["The fern needs little, the basil a lot."],
    ),
]

Completed = Annotated[StrictBool, Field(description="Whether the task is done.")]

Due = Annotated[
    Annotated[
        str,
        AfterValidator(canonical_due),
    ]
    | None,
    WithJsonSchema({"anyOf": [*DUE_SCHEMA["anyOf"], {"type": "null"}]}),
    Field(
        description="A day (`2025-12-10`), or a time with its offset (RFC 3339).",
        examples=["2025-12-10", "2025-12-10T12:30:00+01:00"],
    ),
]


class Priority(StrEnum):
    """How much a task matters."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


if tuple(Priority) != PRIORITIES:
    raise TypeError("persistence/task_fields.py, Priority is not persistence/tables.py, PRIORITIES")


def without_comma(tag: str) -> str:
    """Reject a tag with a comma: a query separates tags by it."""
    if "," in tag:
        raise PydanticCustomError("tag_comma", "String should not contain a comma")
    return tag


def tag_key(tag: str) -> str:
    """What two spellings of one tag have in common: the case-folded text (Unicode, 3.13)."""
    return tag.casefold()


def tag_keys(tags: list[str]) -> list[str]:
    """The key of each tag."""
    return [tag_key(tag) for tag in tags]


def unique_tags(tags: list[str]) -> list[str]:
    """The tags in their order, each in the spelling that comes first."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(tag_key(tag), tag)
    return list(first.values())


TAG_PATTERN: Final = r"^[^\x00,]*([^\s\x00\x85,]|\uFEFF)[^\x00,]*$"
"""A tag, as a regular expression of ECMA-262."""

Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TAG_LENGTH),
    WITHOUT_NUL,
    AfterValidator(without_comma),
    Field(json_schema_extra={"pattern": TAG_PATTERN}),
]

Tags = Annotated[
    list[Tag],
    Field(max_length=MAX_TAGS),
    AfterValidator(unique_tags),
    Field(
        description="At most 20, each trimmed of white space, 1 to 50 characters, no comma. Of "
        "tags that differ in case only, the first one stays.",
        examples=[["home", "garden"]],
    ),
]


class EditableFields(BaseModel):
    """The fields that a client may write, and what a new task has where one is absent."""

    title: Title
    description: Description = None
    completed: Completed = False
    due: Due = None
    priority: Annotated[Priority, Field(description="How much it matters.")] = Priority.NONE
    # A constant list would be copied for each task, by ``copy.deepcopy``.
    tags: Annotated[Tags, Field(json_schema_extra={"default": []})] = Field(default_factory=list)


EDITABLE: Final = tuple(EditableFields.model_fields)
"""The names of the fields that a client may write."""

READ_ONLY: Final[dict[str, Any]] = {
    field.name: field.type
    for field in msgspec.structs.fields(DeletedTask)
    if field.name not in EDITABLE
}
"""The fields that only the server writes: the types that they have in JSON, by their names."""

if lacking := set(EDITABLE).difference(Task.__struct_fields__):
    raise TypeError(f"persistence/task_fields.py, Task has no {', '.join(lacking)}")
