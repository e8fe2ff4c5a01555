"""``GET /tasks/events``: what changes of your tasks, as it happens."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.types import Scope

from api.auth.bearer_token import bearer_token
from api.headers import header_values
from api.http.event_stream import EventForm, EventStream
from api.live.stream import PAGE
from api.state import State, state_of
from persistence import feeds
from persistence.errors import FieldError, InvalidInput
from persistence.feeds import Changes
from persistence.reported_values import reported_value
from persistence.sync_tokens import (
    SYNC_TOKEN_SCHEMA,
    SyncToken,
    SyncTokenText,
    decode_token,
    encode_token,
)
from rest.errors import problem_document
from rest.route import AuthenticatedRoute, Db, Reader
from rest.task_documents import encode_changed_tasks

# Not in the OpenAPI document: a client made from it would wait for the end of the response.
router: Final = APIRouter(route_class=AuthenticatedRoute, include_in_schema=False)


class EventsQuery(BaseModel):
    """Where a stream begins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Annotated[
        SyncTokenText | None, Field(description="A token; without it: now."), SYNC_TOKEN_SCHEMA
    ] = None


def last_event_id(request: Request) -> SyncToken | None:
    """The token that a client sends when it connects again.

    Raises:
        InvalidInput: it is none.
    """
    values = header_values(request.scope, b"last-event-id")
    if not values or values == [b""]:
        return None
    text = values[-1].decode("latin-1")
    try:
        return decode_token(text)
    except PydanticCustomError as error:
        problem = FieldError("Last-Event-ID", error.message(), error.type, reported_value(text))
        raise InvalidInput([problem]) from None


def _scope(request: Request) -> Scope:
    return request.scope


@router.get("/tasks/events")
async def stream_changes(
    query: Annotated[EventsQuery, Query()],
    last: Annotated[SyncToken | None, Depends(last_event_id)],
    scope: Annotated[Any, Depends(_scope)],
    viewer: Reader,
    db: Db,
) -> Any:
    """Follow your tasks: one event at once, and then one for each change or several."""
    state: State = state_of(scope)
    since = last or (decode_token(query.since) if query.since is not None else None)
    first = await feeds.first_changes(db, viewer, since, PAGE)
    seconds = state.settings.live_max_seconds
    return EventStream(state.live, viewer, bearer_token(scope), first, _FORM, seconds)


async def _event(changes: Changes) -> bytes:
    token = encode_token(changes.token).encode()
    tasks = encode_changed_tasks(changes.tasks)
    return b'id: %b\ndata: {"changes":%b,"token":"%b"}\n\n' % (token, tasks, token)


def _end(scope: Scope, error: Exception) -> bytes:
    return b"event: end\ndata: %b\n\n" % problem_document(scope, error)


_FORM: Final = EventForm(_event, _end, retries=True)
