"""A task's fields: what is stored, and which of them a client may write.

INSERT, UPDATE, the request bodies and the encoders follow from these two classes and from the
columns in ``persistence.tables``. ``tests/test_task_fields.py`` names a forgotten declaration.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, BaseModel, Field, StrictBool, StringConstraints

from persistence.cursors import Position
from persistence.tables import DESCRIPTION_LENGTH, TITLE_LENGTH
from persistence.validation import NOT_WHITE_SPACE, blank_to_none, storable


class Task(msgspec.Struct, frozen=True, gc=False):
    """One task, as it is stored. Timestamps are in UTC; ``version`` starts at 1."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def position(self) -> Position:
        """The task's position in the list's order."""
        return Position(self.created_at, self.id)


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_LENGTH),
    AfterValidator(storable),
    Field(
        description="Trimmed of white space, then 1 to 200 characters.",
        examples=["Water the plants"],
        json_schema_extra={"pattern": rf"^[^\x00]*{NOT_WHITE_SPACE}[^\x00]*$"},
    ),
]

Description = Annotated[
    Annotated[
        str,
        StringConstraints(max_length=DESCRIPTION_LENGTH),
        AfterValidator(storable),
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


class EditableFields(BaseModel):
    """The fields that a client may write, and what a new task has where one is absent."""

    title: Title
    description: Description = None
    completed: Completed = False


EDITABLE: Final = tuple(EditableFields.model_fields)
"""The names of the fields that a client may write."""

READ_ONLY: Final[dict[str, Any]] = {
    field.name: field.type for field in msgspec.structs.fields(Task) if field.name not in EDITABLE
}
"""The fields that only the server writes: their types by their names."""

if lacking := set(EDITABLE).difference(Task.__struct_fields__):
    raise TypeError(f"persistence/task_fields.py, Task has no {', '.join(lacking)}")
