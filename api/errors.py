"""The catalogue of errors, and the problem that describes each exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from slowapi.errors import RateLimitExceeded
from slowapi.wrappers import Limit as SlowapiLimit
from starlette.exceptions import HTTPException

from api.charges import Charge
from persistence.errors import (
    ExpectedError,
    FieldError,
    InvalidInput,
    NotFound,
    Unavailable,
    VersionConflict,
)
from persistence.idempotency import KeyInFlight, KeyMismatch
from persistence.sessions.store import UnusableSessions
from persistence.sync_tokens import SyncTokenExpired


class Unauthenticated(ExpectedError):
    """The request has no valid session. The reason is not reported: it would help an attacker."""


class OriginNotAllowed(ExpectedError):
    """A page of another origin, which is not listed, opens a WebSocket.

    The only 403: another person's task is answered like a missing one, with 404.
    """


class MethodNotAllowed(ExpectedError):
    """The path exists, but does not have this method.

    Args:
        allowed: every method of the path, in upper case.
    """

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"Allowed: {', '.join(allowed)}")


class BodyTooSlow(ExpectedError):
    """The body did not arrive within ``api.http.body.BODY_SECONDS``."""


class BodyTooLarge(ExpectedError):
    """The body has more than ``api.http.body.MAX_BODY`` bytes."""


class NotAcceptable(ExpectedError):
    """The client accepts none of the media types that this path can respond with."""


class UnsupportedMediaType(ExpectedError):
    """The body has a media type or an encoding that this path does not read."""


class UnknownHost(ExpectedError):
    """The ``Host`` of the request is none of ours (421: RFC 9110, 15.5.20)."""


class BudgetExceeded(RateLimitExceeded):
    """The cost exceeds what the payer has left at the moment; nothing was charged.

    Args:
        limit: the limit of the budget that was exceeded.
        charge: what would have been charged, and what is left, which is less.
        retry_after: whole seconds until this cost fits, 1 or more.
    """

    def __init__(self, limit: SlowapiLimit, charge: Charge, retry_after: int) -> None:
        self.charge = charge
        self.retry_after = retry_after
        self.rate_limit_info = {
            "limit": limit.limit.amount,
            "remaining": charge.window.remaining,
            "reset": charge.reset,
            "window_seconds": limit.limit.get_expiry(),
        }
        super().__init__(limit)


class TooManyStreams(ExpectedError):
    """The viewer has as many streams as one person may have on an instance."""


class NotReady(ExpectedError):
    """This instance cannot serve requests at the moment.

    Args:
        part: the part that fails, one word: ``"database"``.
        reason: why it fails, for the client too.
    """

    def __init__(self, part: str, reason: str) -> None:
        self.part = part
        super().__init__(f"Not ready: {part}: {reason}")


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One line of the catalogue.

    Attributes:
        name: the member ``type`` of the problem; in upper case, GraphQL's ``code``.
        status: the HTTP status, 400 to 599.
        title: the same for every error of this type.
        detail: the same for every error of this type; ``None`` if the error's message is used.
        headers: headers of every REST response and every refused GraphQL request.
    """

    name: str
    status: int
    title: str
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


RETRY_AFTER: Final = 2
"""Seconds after which a client may repeat a request that was answered with 503."""

_INTERNAL: Final = ProblemType(
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
    OriginNotAllowed: ProblemType(
        "authorization_error",
        403,
        "Access denied",
        "Pages of this origin may not open a WebSocket. The setting CORS_ORIGINS lists those that"
        " may.",
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
    KeyInFlight: ProblemType(
        "idempotency_in_flight",
        409,
        "Request with this idempotency key is still running",
        "Repeat the request after the time in Retry-After to get the response of the first one.",
        {"Retry-After": "1"},
    ),
    SyncTokenExpired: ProblemType(
        "sync_token_expired",
        410,
        "Sync token expired",
        "What changed since then is not known any more. Forget all tasks, and ask again without a"
        " token.",
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
        "This server does not answer for the host that the request names. Its setting ALLOWED_HOSTS"
        " lists further hosts.",
    ),
    KeyMismatch: ProblemType(
        "idempotency_mismatch",
        422,
        "Idempotency key used for another request",
        "A repeat has to be the same request. A new request needs a key of its own.",
    ),
    TooManyStreams: ProblemType(
        "rate_limit_exceeded", 429, "Rate limit exceeded", headers={"Retry-After": "10"}
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
    Exception: _INTERNAL,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An exception in terms of the catalogue, independent of the protocol (RFC 9457).

    Attributes:
        type: its line of the catalogue.
        detail: what is wrong with this request, in a sentence.
        errors: the errors of single fields, of an ``InvalidInput``.
        headers: headers of the response.
        extra: further members.
    """

    type: ProblemType
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The name of the type as GraphQL writes it: ``VALIDATION_ERROR``."""
        return self.type.name.upper()

    @property
    def is_internal(self) -> bool:
        """Whether the cause is a defect of ours. Only the log may contain it."""
        return self.type is _INTERNAL

    def members(self, *, instance: str, timestamp: str, request_id: str) -> dict[str, Any]:
        """The members of the error in both protocols, in the order in which they are sent.

        Args:
            instance: the path of the request.
            timestamp: the current time, RFC 3339 in UTC, to the second.
            request_id: the id under which the log has the request.
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
    """The problem that an exception is reported as; an unexpected one is an internal error."""
    error = _translate(error)
    kind = _problem_type(error)
    problem = Problem(kind, kind.detail or str(error) or kind.title, headers=kind.headers)
    match error:
        case InvalidInput(errors=errors):
            return replace(problem, errors=tuple(errors))
        case MethodNotAllowed(allowed=allowed):
            return replace(problem, headers={**problem.headers, "Allow": ", ".join(allowed)})
        case BudgetExceeded(retry_after=seconds, rate_limit_info=info):
            return replace(
                problem,
                detail=f"Too many requests. Retry after {seconds} seconds.",
                headers={**problem.headers, "Retry-After": str(seconds)},
                extra={"retry_after": seconds, "rate_limit_info": info},
            )
        case VersionConflict(version=version):
            headers = {**problem.headers, "ETag": f'"{version}"'}
            return replace(problem, headers=headers, extra={"version": version})
        case KeyInFlight():
            return replace(problem, extra={"retry_after": int(kind.headers["Retry-After"])})
        case NotReady(part=part):
            return replace(problem, extra={"failing": part})
        case _:
            return problem


def _translate(error: Exception) -> Exception:
    """Starlette's 404 as an expected error of ours; every other exception as it is."""
    if isinstance(error, HTTPException) and error.status_code == 404:
        return _PathNotFound()
    return error


class _PathNotFound(NotFound):
    def __init__(self) -> None:
        ExpectedError.__init__(self, "There is nothing at this path")


def _problem_type(error: Exception) -> ProblemType:
    return next(CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE)
