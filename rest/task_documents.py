"""The documents of tasks: their schemas for OpenAPI, and their encoders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.json import encode_json
from persistence.feeds import Changes
from persistence.field_types import MAX_ID
from persistence.sync_tokens import encode_token
from persistence.tables import DESCRIPTION_LENGTH, MAX_TAGS, TAG_LENGTH, TITLE_LENGTH
from persistence.task_fields import DeletedTask, Priority
from persistence.tasks import Deleted, Task, Updated
from rest.rows import RowEncoder

_Id = Annotated[int, Field(ge=1, le=MAX_ID)]
_DAY: Final = r"\d{4}-\d\d-\d\d"
_TIME: Final = r"T\d\d:\d\d:\d\d\.\d{6}Z"
_DUE: Final = f"^{_DAY}({_TIME})?$"
_INSTANT: Final = {
    "type": "string",
    "format": "date-time",
    "pattern": f"^{_DAY}{_TIME}$",
    "description": "RFC 3339, in UTC, to the microsecond.",
}
_Instant = Annotated[datetime, WithJsonSchema(_INSTANT)]


class TaskDocument(BaseModel):
    """A task of yours."""

    model_config = ConfigDict(
        title="Task",
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    "user_id": "DpqJ0yVxKsF0cR2JkXy8nJx2mZPv3hQb",
                    "title": "Water the plants",
                    "description": None,
                    "completed": False,
                    "version": 1,
                    "created_at": "2025-12-10T12:34:56.789012Z",
                    "updated_at": "2025-12-10T12:34:56.789012Z",
                    "due": "2025-12-24",
                    "priority": "high",
                    "tags": ["home", "garden"],
                    "completed_at": None,
                }
            ]
        },
    )

    id: _Id
    user_id: Annotated[str, Field(description="The owner, as the auth server writes it.")]
    title: Annotated[str, Field(min_length=1, max_length=TITLE_LENGTH)]
    description: Annotated[str, Field(max_length=DESCRIPTION_LENGTH)] | None
    completed: bool
    version: Annotated[int, Field(ge=1, description="Rises with every change; see `ETag`.")]
    created_at: _Instant
    updated_at: _Instant
    due: Annotated[
        Annotated[str, Field(pattern=_DUE)] | None,
        Field(description="A day, or a time in UTC to the microsecond."),
    ]
    priority: Priority
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=TAG_LENGTH)]],
        Field(max_length=MAX_TAGS),
    ]
    completed_at: Annotated[
        _Instant | None, Field(description="When it was completed; null while it is not.")
    ]
    deleted_at: Annotated[
        datetime | None,
        WithJsonSchema(_INSTANT | {"description": "When it was deleted: only in the trash."}),
    ] = None


class TaskPageDocument(BaseModel):
    """A page of tasks, for clients that cannot follow the header `Link`."""

    model_config = ConfigDict(title="TaskPage", extra="forbid")

    items: Annotated[list[TaskDocument], Field(description="The tasks.")]
    next_cursor: Annotated[
        str | None, Field(description="The `cursor` of the next page; null if there is none.")
    ]


class ChangedTasksDocument(BaseModel):
    """Tasks that changed, in the order of their last change."""

    model_config = ConfigDict(title="ChangedTasks", extra="forbid")

    changes: Annotated[
        list[TaskDocument],
        Field(description="Each task once, as it is now; one in the trash has `deleted_at`."),
    ]
    token: Annotated[str, Field(description="The next `since`, once you applied these.")]
    has_more: Annotated[bool, Field(description="Whether there are more after the token.")]


class BulkDeleteResultDocument(BaseModel):
    """What a bulk deletion did, each in the order sent."""

    model_config = ConfigDict(title="BulkDeleteResult", extra="forbid")

    deleted: Annotated[list[_Id], Field(description="The tasks that are gone now.")]
    not_found: Annotated[list[int], Field(description="The ids of no task of yours.")]


class BulkUpdateResultDocument(BaseModel):
    """What a bulk change did, each in the order sent."""

    model_config = ConfigDict(title="BulkUpdateResult", extra="forbid")

    updated: Annotated[list[TaskDocument], Field(description="The tasks as they are now.")]
    not_found: Annotated[list[int], Field(description="The ids of no task of yours.")]


_tasks: Final = RowEncoder(Task)

encode_task = _tasks.one
"""A task as JSON."""

encode_tasks = _tasks.many
"""Tasks as a JSON array."""

_deleted: Final = RowEncoder(DeletedTask)

encode_deleted_tasks = _deleted.many
"""Tasks in the trash as a JSON array."""


def encode_changes(changes: Changes) -> bytes:
    """A page of changes as JSON."""
    return b'{"changes":%b,"token":"%b","has_more":%b}' % (
        encode_changed_tasks(changes.tasks),
        encode_token(changes.token).encode(),
        b"true" if changes.has_more else b"false",
    )


def encode_changed_tasks(tasks: Sequence[Task]) -> bytes:
    """Tasks as a JSON array, some of them perhaps in the trash."""
    encoded = [
        _deleted.one(task) if isinstance(task, DeletedTask) else _tasks.one(task) for task in tasks
    ]
    return b"[%b]" % b",".join(encoded)


def encode_updated(updated: Updated) -> bytes:
    """The result of a bulk change as JSON."""
    updated_tasks, not_found = encode_tasks(updated.updated), encode_json(updated.not_found)
    return b'{"updated":%b,"not_found":%b}' % (updated_tasks, not_found)


def encode_deleted(deleted: Deleted) -> bytes:
    """The result of a bulk deletion as JSON."""
    return encode_json(deleted._asdict())
