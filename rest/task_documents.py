"""The documents that REST answers with, as bytes and as OpenAPI tells of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from api.errors import CATALOGUE
from api.http.body import encode_json, instant
from persistence.tables import DESCRIPTION_LENGTH, TITLE_LENGTH
from persistence.task_inputs import MAX_ERRORS, MAX_ID
from persistence.tasks import Deleted, Task

_Id = Annotated[int, Field(ge=1, le=MAX_ID)]
_Instant = Annotated[
    datetime,
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
            "description": "RFC 3339, in UTC, to the microsecond.",
        }
    ),
]


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


class DeletedDocument(BaseModel):
    """What a bulk deletion did, each in the order asked."""

    model_config = ConfigDict(title="Deleted", extra="forbid")

    deleted: Annotated[list[_Id], Field(description="The tasks that are gone now.")]
    not_found: Annotated[list[int], Field(description="The ids of no task of yours.")]


class FieldErrorDocument(BaseModel):
    """One thing wrong with an input."""

    model_config = ConfigDict(title="FieldError", extra="forbid")

    field: Annotated[str, Field(description="A dotted path; empty for the whole body.")]
    message: str
    code: str
    value: Annotated[Any, Field(description="The offending input, cut at 200 characters.")]


class RateLimitInfoDocument(BaseModel):
    """The budget that is used up."""

    model_config = ConfigDict(title="RateLimitInfo", extra="forbid")

    limit: Annotated[int, Field(description="What anyone has of it, in a window.")]
    remaining: Annotated[int, Field(description="What you have left of it.")]
    reset: Annotated[int, Field(description="The Unix second at which it is full.")]
    window_seconds: int


_TYPES: Final[list[Any]] = list(
    dict.fromkeys(problem_type.name for problem_type in CATALOGUE.values())
)


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: Annotated[str, Field(json_schema_extra={"enum": _TYPES})]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="The path of the request.")]
    timestamp: datetime
    request_id: str
    errors: Annotated[
        list[FieldErrorDocument],
        Field(default_factory=list, max_length=MAX_ERRORS, description="Of `validation_error`."),
    ]
    retry_after: Annotated[
        int,
        Field(default_factory=int, description="Of `rate_limit_exceeded`: in how many seconds."),
    ]
    rate_limit_info: Annotated[
        RateLimitInfoDocument,
        Field(default_factory=dict, description="Of `rate_limit_exceeded`."),
    ]
    failing: Annotated[
        str, Field(default_factory=str, description="Of `/health/ready`: the part that fails.")
    ]


class HealthDocument(BaseModel):
    """The process runs."""

    model_config = ConfigDict(title="Health", extra="forbid")

    status: Literal["ok"]
    timestamp: datetime


class ReadinessDocument(BaseModel):
    """The instance can serve: each part, and how it is."""

    model_config = ConfigDict(title="Readiness", extra="forbid")

    status: Literal["ok"]
    timestamp: datetime
    database: Literal["ok"]
    redis: Annotated[
        Literal["ok", "degraded"],
        Field(
            default_factory=str,
            description="Where there is one. Degraded: each instance counts by itself.",
        ),
    ]


def encode_task(task: Task) -> bytes:
    """A task as JSON."""
    return encode_json(_wire(task))


def encode_tasks(tasks: list[Task]) -> bytes:
    """Tasks as a JSON array."""
    return encode_json([_wire(task) for task in tasks])


def encode_deleted(deleted: Deleted) -> bytes:
    """A bulk deletion's outcome as JSON."""
    return encode_json(deleted._asdict())


def _wire(task: Task) -> Task | dict[str, Any]:
    """A task as the encoder has to get it: as it is, but for one in half a million."""
    if task.created_at.microsecond and task.updated_at.microsecond:
        return task
    document = msgspec.structs.asdict(task)
    document["created_at"] = instant(task.created_at)
    document["updated_at"] = instant(task.updated_at)
    return document
