"""An error as REST tells it: RFC 9457, ``application/problem+json``."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from slowapi.errors import RateLimitExceeded
from starlette.responses import Response
from starlette.types import Scope

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
    report,
)
from api.http.body import encode_json, header_values, now_to_the_second, too_large, too_slow
from api.rate_limit.budget import configured_limit
from persistence.errors import FieldError, InvalidInput, NotFound, Unavailable, VersionConflict

PROBLEM_JSON: Final = "application/problem+json"


def answer(scope: Scope, error: Exception) -> Response:
    """The response to a request that ended in an exception, whichever it was."""
    problem = describe(error)
    report(scope, error, problem)
    scope["problems"].append(problem.type.name)
    members = problem.members(
        instance=scope["path"],
        timestamp=now_to_the_second(),
        request_id=scope["request_id"],
    )
    headers = {**problem.headers, "Vary": "Accept", "Cache-Control": "no-store"}
    return Response(encode_json(members), problem.type.status, headers, _media_type(scope))


def _media_type(scope: Scope) -> str:
    accepted = b",".join(header_values(scope, b"accept")).decode("latin-1").lower()
    ranges = [part for part in accepted.split(",") if not _REFUSED.search(part)]
    names = {part.partition(";")[0].strip() for part in ranges}
    plain = "application/json" in names and PROBLEM_JSON not in names
    return "application/json" if plain else PROBLEM_JSON


_REFUSED: Final = re.compile(r";[ \t]*q=0(\.0*)?[ \t]*(;|$)")  # RFC 9110, 12.4.2


def problems(*kinds: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about the errors that an operation answers, besides those all answer."""
    return {
        CATALOGUE[kind].status: {
            "$ref": f"#/components/responses/{_component(kind)}",
            "description": CATALOGUE[kind].title,
        }
        for kind in kinds
    }


def documented_responses() -> dict[str, Any]:
    """What ``problems`` refers to: each error once, with an example."""
    return {_component(kind): _documented(error) for kind, error in _EXAMPLES.items()}


def _component(kind: type[Exception]) -> str:
    return "Internal" if kind is Exception else kind.__name__


_EXAMPLES: Final[dict[type[Exception], Exception]] = {
    InvalidInput: InvalidInput(
        [FieldError("title", "String should have at least 1 character", "string_too_short", "")]
    ),
    Unauthenticated: Unauthenticated(),
    NotFound: NotFound("Task", 999),
    BodyTooSlow: too_slow(),
    VersionConflict: VersionConflict("Task", 2),
    BodyTooLarge: too_large(),
    UnsupportedMediaType: UnsupportedMediaType("The request body must be application/json"),
    UnknownHost: UnknownHost(),
    RateLimitExceeded: BudgetExceeded(
        configured_limit("100/minute"), None, remaining=0, reset=1765370142, retry_after=45
    ),
    Exception: Exception(),
    NotReady: NotReady("database", "it does not answer"),
    Unavailable: Unavailable(""),
}


def _documented(error: Exception) -> dict[str, Any]:
    problem = describe(error)
    example = problem.members(
        instance="/tasks",
        timestamp="2025-12-10T12:34:56Z",
        request_id="0af7651916cd43dd8448eb211c80319c",
    )
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "example": msgspec.to_builtins(example),
    }
    return {
        "description": problem.type.title,
        "headers": {
            name: {"schema": {"type": "string"}, "example": value}
            for name, value in problem.headers.items()
            if name != "Connection"
        },
        "content": {PROBLEM_JSON: content, "application/json": content},
    }


EVERY_PATH: Final = problems(UnknownHost, Exception)
"""The errors that every path can answer."""

EVERY_OPERATION: Final = problems(
    InvalidInput, Unauthenticated, UnknownHost, RateLimitExceeded, Exception, Unavailable
)
"""The errors that every operation on tasks can answer."""
