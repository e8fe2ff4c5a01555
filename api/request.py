"""What belongs to one HTTP request. Everything is in one object, under one key of the ASGI scope.

A middleware that copies the scope copies the reference, so that all copies share the object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from api.charges import Charge
from api.errors import Problem
from api.rate_limit.response_slots import RequestSlots
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.idempotency import IdempotentWrite
from persistence.sessions.store import UnusableSessions
from persistence.usage import Usage
from persistence.viewer import Viewer

_SCOPE_KEY: Final = "twofold"


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request, from ``api.http.application`` on.

    Attributes:
        request_id: the id in ``X-Request-ID``, in the log and in errors.
        slots: its share of the responses that its payer may have under way.
        usage: what it used of PostgreSQL and Redis.
        charges: what was charged for it, or refused; the response reports them in its headers.
        error_types: the types of the errors that its response contains, for the access log. A
            GraphQL response has them beneath status 200.
        status: of the response; 0 until it starts.
        route: the template of the route's path; empty if there is no route.
        admitted_at: when its cost was charged or refused, by ``time.monotonic``; 0 before.
        trace_id: of its trace, if there are traces; set when it has ended.
        kind: of a GraphQL operation: ``query``, ``mutation`` or ``subscription``.
        operation: of a GraphQL document: its name, or its fields.
        reasons: why something that the request needs was not available. For the log only.
        failures: defects of ours that the request met. For the log only.
        events: how many a stream has sent; ``None`` if the response is no stream.
        close_code: with which a WebSocket was closed; 0 if it was not, or the response is none.
        idempotent_writes: the writes with an idempotency key: the whole request's (``""``), or
            those of a document's fields, by their names in the response.
        viewer: the authenticated viewer; set by ``api.admission``.
        database: the request's access to the database; set by ``api.admission``.
    """

    request_id: str
    slots: RequestSlots
    usage: Usage = field(default_factory=Usage)
    charges: list[Charge] = field(default_factory=list)
    error_types: list[str] = field(default_factory=list)
    status: int = 0
    route: str = ""
    admitted_at: float = 0.0
    trace_id: str = ""
    kind: str = ""
    operation: str = ""
    reasons: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    events: int | None = None
    close_code: int = 0
    idempotent_writes: dict[str, IdempotentWrite] = field(default_factory=dict)
    viewer: Viewer = field(init=False, repr=False)
    database: Database = field(init=False, repr=False)

    @property
    def known_viewer(self) -> Viewer | None:
        """The viewer, if the request has come so far."""
        return getattr(self, "viewer", None)


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


MAX_REPORTED: Final = 3
"""Defects, and reasons, of one request that are logged: a document can have many fields."""


def report(scope: Scope, error: Exception, problem: Problem) -> None:
    """Note an error that an operator must know of, for the line of the request in the log.

    A defect is noted with its traceback, an unavailable server with the reason. Nothing else is.
    """
    context = context_of(scope)
    is_ours = isinstance(error, Unavailable | UnusableSessions) or problem.type.status >= 500
    if problem.is_internal and len(context.failures) < MAX_REPORTED:
        context.failures.append(error)
    elif is_ours and not problem.is_internal and len(context.reasons) < MAX_REPORTED:
        context.reasons.append(str(error))
