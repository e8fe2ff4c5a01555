"""What belongs to one HTTP request. Everything is in one object, under one key of the ASGI scope.

A middleware that copies the scope copies the reference, so that all copies share the object.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from api.charges import Charge
from api.errors import Problem
from api.rate_limit.answers import Answering
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.idempotency import Once
from persistence.sessions.layouts import UnusableSessions
from persistence.usage import Usage
from persistence.viewer import Viewer

_log = logging.getLogger("twofold.error")

_SCOPE_KEY: Final = "twofold"


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request, from ``api.http.application`` on.

    Attributes:
        request_id: the id in ``X-Request-ID``, in the log and in errors.
        answering: the request's share of the responses that its payer may have under way.
        usage: what it used of PostgreSQL and Redis.
        charges: what was charged for it, or refused; the response reports them in its headers.
        error_types: the types of the errors that its response contains, for the access log. A
            GraphQL response has them beneath status 200.
        status: of the response; 0 until it starts.
        once: what has an idempotency key: the whole request (``""``), or fields of a document by
            their names in the response.
        viewer: the authenticated viewer; set by ``api.admission.authenticate``.
        database: the request's access to the database; set by ``api.admission.authenticate``.
    """

    request_id: str
    answering: Answering
    usage: Usage = field(default_factory=Usage)
    charges: list[Charge] = field(default_factory=list)
    error_types: list[str] = field(default_factory=list)
    status: int = 0
    once: dict[str, Once] = field(default_factory=dict)
    viewer: Viewer = field(init=False, repr=False)
    database: Database = field(init=False, repr=False)


def set_context(scope: Scope, context: RequestContext) -> None:
    """Put the context of a request into its scope."""
    scope[_SCOPE_KEY] = context


def context_of(scope: Scope) -> RequestContext:
    """The context of the request that has this scope, or a copy of it.

    Raises:
        KeyError: the request did not come through ``api.http.application``.
    """
    context: RequestContext = scope[_SCOPE_KEY]
    return context


def report(scope: Scope, error: Exception, problem: Problem) -> None:
    """Log an error that an operator must know of.

    A defect is logged with its traceback, an unavailable server with the reason. Nothing else is.
    """
    if problem.is_internal:
        level, event, traceback = logging.ERROR, "unhandled exception", error
    elif isinstance(error, Unavailable | UnusableSessions):
        level, event, traceback = logging.WARNING, f"unavailable: {error}", None
    else:
        return
    request = f"{scope['method']} {path_for_logs(scope)}"
    request_id = context_of(scope).request_id
    _log.log(level, "%s %s request_id=%s", request, event, request_id, exc_info=traceback)


def path_for_logs(scope: Scope) -> str:
    """The path of a request without its query: printable ASCII, cut at 200 bytes."""
    # The raw path, because the decoded one may contain a line break.
    path: bytes = scope.get("raw_path") or scope["path"].encode("ascii", "backslashreplace")
    return path.partition(b"?")[0][:200].decode("ascii", "backslashreplace")
