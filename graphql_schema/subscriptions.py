"""Subscriptions over server-sent events: graphql-sse, in its mode of distinct connections.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response
from starlette.types import Scope

from api.auth.bearer_token import without_token
from api.errors import describe
from api.http.event_stream import EventForm, EventStream
from api.http.json import encode_json
from api.http.negotiation import best_media_type
from api.live.stream import PAGE
from api.request import context_of
from api.state import state_of
from graphql_schema.compiled import Call
from graphql_schema.errors import field_error, request_error
from graphql_schema.task_changes import changes_page
from persistence import feeds
from persistence.database import Database
from persistence.feeds import Changes

EVENT_STREAM: Final = "text/event-stream"


def accepts_events(scope: Scope) -> bool:
    """Whether the client names this media type."""
    return best_media_type(scope, ("x/x", EVENT_STREAM)) == EVENT_STREAM


async def first_changes(scope: Scope, db: Database, call: Call) -> Changes:
    """What a subscription sends at once; it continues after it.

    Raises:
        GraphQLError, InvalidInput: an argument is invalid.
        SyncTokenExpired: what changed after ``since`` is not known any more.
        Unavailable: the database did not answer.
    """
    viewer = context_of(scope).viewer
    since = changes_page(call.arguments().get("since"), None, PAGE).position
    return await feeds.first_changes(db, viewer, since, PAGE)


async def result(scope: Scope, call: Call, context: Any, changes: Changes) -> bytes:
    """The result of a subscription's document for changes: JSON."""
    result = await call.execute(context, changes)
    errors = [field_error(scope, error) for error in result.errors]
    members = b'"data":' + result.data
    if errors:
        members = b'"errors":%b,%b' % (without_token(scope, encode_json(errors)), members)
    return b"{" + members + b"}"


async def open_stream(
    scope: Scope, db: Database, bearer: bytes, call: Call, context: Any
) -> EventStream:
    """The response that follows one subscription.

    Raises:
        GraphQLError, InvalidInput, SyncTokenExpired, Unavailable: see ``first_changes``.
    """
    first = await first_changes(scope, db, call)

    async def event(changes: Changes) -> bytes:
        return _next(await result(scope, call, context, changes))

    state = state_of(scope)
    viewer = context_of(scope).viewer
    form = EventForm(event, _end, retries=False)
    return EventStream(state.live, viewer, bearer, first, form, state.settings.live_max_seconds)


def rejection_stream(scope: Scope, errors: list[dict[str, Any]]) -> Response:
    """A stream that ends with the errors of its document at once."""
    body = without_token(scope, encode_json({"errors": errors}))
    headers = {"content-type": EVENT_STREAM, "x-accel-buffering": "no"}
    return Response(_next(body) + _COMPLETE, 200, headers)


def _end(scope: Scope, error: Exception) -> bytes:
    errors = [request_error(scope, describe(error))]
    return _next(without_token(scope, encode_json({"errors": errors}))) + _COMPLETE


def _next(body: bytes) -> bytes:
    return b"event: next\ndata: %b\n\n" % body


_COMPLETE: Final = b"event: complete\ndata:\n\n"
