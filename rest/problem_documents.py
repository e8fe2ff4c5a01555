"""The error documents of REST in OpenAPI: their schema, and one response component an error."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from api.charges import ONE_READ, Charge, Limit, WindowState
from api.errors import (
    CATALOGUE,
    BodyTooLarge,
    BodyTooSlow,
    BudgetExceeded,
    NotReady,
    Unauthenticated,
    UnknownHost,
    UnsupportedMediaType,
    describe,
)
from api.http.body import too_large, too_slow
from api.rate_limit.budget import configured_limit
from persistence.errors import FieldError, InvalidInput, NotFound, Unavailable, VersionConflict
from persistence.idempotency import KeyInFlight, KeyMismatch
from persistence.sync_tokens import SyncTokenExpired
from persistence.validation import MAX_ERRORS
from rest.errors import PROBLEM_JSON


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


_TYPE_NAMES: Final[list[Any]] = list(dict.fromkeys(each.name for each in CATALOGUE.values()))


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: Annotated[str, Field(json_schema_extra={"enum": _TYPE_NAMES})]
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
        Field(
            default_factory=int,
            description="Of `rate_limit_exceeded` and `idempotency_in_flight`: in so many seconds.",
        ),
    ]
    rate_limit_info: Annotated[
        RateLimitInfoDocument,
        Field(default_factory=dict, description="Of `rate_limit_exceeded`."),
    ]
    version: Annotated[
        int,
        Field(default_factory=int, description="Of `precondition_failed`: the task's version now."),
    ]
    failing: Annotated[
        str, Field(default_factory=str, description="Of `/health/ready`: the part that fails.")
    ]


_REFUSED: Final = Charge(
    ONE_READ,
    WindowState(
        False, Limit(100, 60), 0, seconds_until_allowed=45, seconds_until_full=60, now=1765370082
    ),
    reset=1765370142,
    headers=[],
)

# The names are part of the published contract: typed clients refer to them.
EXAMPLES: Final[dict[str, Exception]] = {
    "Invalid": InvalidInput(
        [FieldError("title", "String should have at least 1 character", "string_too_short", "")]
    ),
    "Unauthenticated": Unauthenticated(),
    "NotFound": NotFound("Task", 999),
    "BodyTooSlow": too_slow(),
    "KeyInFlight": KeyInFlight(),
    "SyncTokenExpired": SyncTokenExpired(),
    "Changed": VersionConflict("Task", 2),
    "BodyTooLarge": too_large(),
    "UnsupportedMediaType": UnsupportedMediaType("The request body must be application/json"),
    "UnknownHost": UnknownHost(),
    "KeyMismatch": KeyMismatch(),
    "RateLimitExceeded": BudgetExceeded(configured_limit("100/minute"), _REFUSED, retry_after=45),
    "Internal": Exception(),
    "NotReady": NotReady("database", "it does not answer"),
    "Unavailable": Unavailable(""),
}
"""An example of each error, by the name of its response component."""

UNCHARGED: Final = {"UnknownHost", "NotReady"}
"""The response components of requests that are answered before they are charged, or never are."""

_NAMES: Final = {type(example): name for name, example in EXAMPLES.items()}


def error_responses(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """References to the components of some errors, for a route's ``responses``.

    Args:
        errors: classes of ``EXAMPLES``.

    Returns:
        A reference for each error, by its status.
    """
    names = [_NAMES[error] for error in errors]
    return {
        describe(EXAMPLES[name]).type.status: {"$ref": f"#/components/responses/{name}"}
        for name in names
    }


COMMON_ERRORS: Final = error_responses(InvalidInput, Exception)
"""The errors of every operation."""

RESOURCE_ERRORS: Final = error_responses(
    InvalidInput, Unauthenticated, UnknownHost, BudgetExceeded, Exception, Unavailable
)
"""The errors of every operation on a resource of the viewer's."""

KEY_ERRORS: Final = error_responses(KeyInFlight, KeyMismatch)
"""The further errors of an operation that takes an idempotency key."""

BODY_ERRORS: Final = error_responses(BodyTooSlow, BodyTooLarge, UnsupportedMediaType)
"""The further errors of an operation that has a request body."""


def components() -> dict[str, Any]:
    """OpenAPI's response components: each error once, with an example."""
    return {name: _component(example) for name, example in EXAMPLES.items()}


def _component(example: Exception) -> dict[str, Any]:
    problem = describe(example)
    members = problem.members(
        instance="/tasks",
        timestamp="2025-12-10T12:34:56Z",
        request_id="0af7651916cd43dd8448eb211c80319c",
    )
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "example": msgspec.to_builtins(members),
    }
    return {
        "description": problem.type.title,
        "headers": {
            name: {"schema": {"type": "string"}, "example": value}
            for name, value in problem.headers.items()
            # Connection concerns the connection, not the response, and HTTP/2 has none.
            if name != "Connection"
        },
        "content": {PROBLEM_JSON: content, "application/json": content},
    }
