"""The catalogue of errors, and how any exception finds its line in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from slowapi.errors import RateLimitExceeded
from slowapi.wrappers import Limit as SlowapiLimit
from starlette.exceptions import HTTPException
from starlette.types import Scope

from persistence.errors import (
    ExpectedError,
    FieldError,
    InvalidInput,
    NotFound,
    Unavailable,
    VersionConflict,
)
from persistence.sessions.layouts import UnusableSessions

_log = logging.getLogger("twofold.error")


class Unauthenticated(ExpectedError):
    """No session that counts. Which of the many reasons it was is nobody's business."""


class MethodNotAllowed(ExpectedError):
    """The path exists, but not with this method.

    Args:
        allowed: every method that the path has.
    """

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"Allowed: {', '.join(allowed)}")


class BodyTooSlow(ExpectedError):
    """The body took longer to arrive than anyone's connection needs."""


class BodyTooLarge(ExpectedError):
    """The body is larger than any request here can be."""


class NotAcceptable(ExpectedError):
    """The client takes no media type that this path can answer with."""


class UnsupportedMediaType(ExpectedError):
    """The body is not in a form that this path reads; the message says which it reads."""


class UnknownHost(ExpectedError):
    """The request was meant for another host (RFC 9110, 15.5.20)."""


class BudgetExceeded(RateLimitExceeded):
    """The payer cannot pay at the moment; nothing of the cost was taken.

    Args:
        limit: the one that was hit.
        charge: the budget's own account of it.
        remaining: what is left, too little.
        reset: the Unix second at which everything is left again.
        retry_after: whole seconds until this cost fits.
    """

    def __init__(
        self, limit: SlowapiLimit, charge: Any, *, remaining: int, reset: int, retry_after: int
    ) -> None:
        self.charge = charge
        self.retry_after = retry_after
        self.rate_limit_info = {
            "limit": limit.limit.amount,
            "remaining": remaining,
            "reset": reset,
            "window_seconds": limit.limit.get_expiry(),
        }
        super().__init__(limit)


class NotReady(ExpectedError):
    """This instance cannot serve at the moment.

    Args:
        part: the part that fails, in one word.
        reason: what is the matter with it.
    """

    def __init__(self, part: str, reason: str) -> None:
        self.part = part
        super().__init__(f"Not ready: {part}: {reason}")


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One line of the catalogue: what an error is called, whoever raised it."""

    name: str
    status: int
    title: str
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


RETRY_AFTER: Final = 2
"""Seconds after which a client may ask again when a server behind us was not there."""

INTERNAL: Final = ProblemType(
    "internal_error",
    500,
    "Internal server error",
    "Something went wrong on our side. The request id leads to it in our log.",
)

_UNAVAILABLE: Final = ProblemType(
    "service_unavailable",
    503,
    "Service unavailable",
    "The service cannot answer at the moment. Try again in a few seconds.",
    {"Retry-After": str(RETRY_AFTER)},
)

CATALOGUE: Final[dict[type[Exception], ProblemType]] = {
    InvalidInput: ProblemType(
        "validation_error",
        400,
        "Request validation failed",
        "One or more validation errors occurred",
    ),
    Unauthenticated: ProblemType(
        "authentication_error",
        401,
        "Authentication failed",
        "Invalid or missing authentication credentials",
        {"WWW-Authenticate": "Bearer"},
    ),
    NotFound: ProblemType("not_found_error", 404, "Resource not found"),
    MethodNotAllowed: ProblemType("method_not_allowed", 405, "Method not allowed"),
    NotAcceptable: ProblemType("not_acceptable", 406, "Not acceptable"),
    BodyTooSlow: ProblemType(
        "request_timeout",
        408,
        "Request body took too long",
        headers={"Connection": "close"},
    ),
    VersionConflict: ProblemType("precondition_failed", 412, "Task changed since you read it"),
    BodyTooLarge: ProblemType(
        "payload_too_large",
        413,
        "Request body too large",
        headers={"Connection": "close"},
    ),
    UnsupportedMediaType: ProblemType("unsupported_media_type", 415, "Unsupported media type"),
    UnknownHost: ProblemType(
        "misdirected_request",
        421,
        "Unknown host",
        "This server does not answer for the host that the request names",
    ),
    RateLimitExceeded: ProblemType("rate_limit_exceeded", 429, "Rate limit exceeded"),
    NotReady: ProblemType(
        "service_unavailable",
        503,
        "Service unavailable",
        headers={"Retry-After": str(RETRY_AFTER)},
    ),
    Unavailable: _UNAVAILABLE,
    UnusableSessions: _UNAVAILABLE,
    Exception: INTERNAL,
}

RESERVED: Final = ProblemType("authorization_error", 403, "Access denied")
"""Nothing answers this yet: someone else's task does not exist for you, it is not forbidden."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as both doors tell it, before either dresses it (RFC 9457 in structure)."""

    type: ProblemType
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The type as GraphQL clients know it."""
        return self.type.name.upper()

    @property
    def is_internal(self) -> bool:
        """Whether the cause is a defect of ours, which only the log may tell."""
        return self.type is INTERNAL

    def members(self, *, instance: str, timestamp: str, request_id: str) -> dict[str, Any]:
        """The members that both doors send.

        Args:
            instance: the path of the request.
            timestamp: RFC 3339, to the second.
            request_id: what the log has it under.
        """
        members: dict[str, Any] = {
            "type": self.type.name,
            "title": self.type.title,
            "status": self.type.status,
            "detail": self.detail,
            "instance": instance,
            "timestamp": timestamp,
            "request_id": request_id,
            **self.extra,
        }
        if self.errors:
            members["errors"] = list(self.errors)
        return members


def describe(error: Exception) -> Problem:
    """Find an exception's line in the catalogue; what stands in no line is ours to mend."""
    error = _as_fact(error)
    problem_type = _problem_type(error)
    match error:
        case InvalidInput(errors=errors):
            return Problem(
                problem_type, problem_type.detail or "", tuple(errors), problem_type.headers
            )
        case MethodNotAllowed(allowed=allowed):
            headers = {**problem_type.headers, "Allow": ", ".join(allowed)}
            return Problem(problem_type, str(error), headers=headers)
        case BudgetExceeded(retry_after=seconds, rate_limit_info=info):
            return Problem(
                problem_type,
                f"Too many requests. Retry after {seconds} seconds.",
                headers={"Retry-After": str(seconds)},
                extra={"retry_after": seconds, "rate_limit_info": info},
            )
        case NotReady(part=part):
            return Problem(
                problem_type, str(error), headers=problem_type.headers, extra={"failing": part}
            )
        case _:
            return Problem(
                problem_type,
                problem_type.detail or str(error) or problem_type.title,
                headers=problem_type.headers,
            )


def report(scope: Scope, error: Exception, problem: Problem) -> None:
    """Log what an operator has to know: a defect with its traceback, a server that was away."""
    if problem.is_internal:
        level, what, traceback = logging.ERROR, "unhandled exception", error
    elif isinstance(error, Unavailable | UnusableSessions):
        level, what, traceback = logging.WARNING, f"unavailable: {error}", None
    else:
        return
    asked = f"{scope['method']} {path_for_logs(scope)}"
    _log.log(level, "%s %s request_id=%s", asked, what, scope["request_id"], exc_info=traceback)


def path_for_logs(scope: Scope) -> str:
    """The path of a request in printable ASCII, whatever was sent, and never its query string."""
    # The raw path: decoded, it could carry a line break into the log.
    path: bytes = scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace")
    return path.partition(b"?")[0][:200].decode("ascii", "backslashreplace")


def _as_fact(error: Exception) -> Exception:
    """The framework's own refusals in our words."""
    if isinstance(error, HTTPException) and error.status_code == 404:
        return _NoSuchPath()
    return error


class _NoSuchPath(NotFound):
    def __init__(self) -> None:
        ExpectedError.__init__(self, "There is nothing at this path")


def _problem_type(error: Exception) -> ProblemType:
    return next(CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE)
