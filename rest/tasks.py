"""The routes of ``/tasks``: the inputs of each, the function that it calls, and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from api.http.bytes_response import JSON_TYPE, BytesResponse
from api.http.json import encode_json
from persistence import feeds, tasks
from persistence.cursors import encode_cursor
from persistence.errors import NotFound, VersionConflict
from persistence.field_types import MAX_ID, text_boolean
from persistence.sync_tokens import SyncToken, SyncTokenExpired, encode_token
from persistence.task_inputs import (
    ChangesPage,
    NewTask,
    Page,
    TaskChanges,
    TaskId,
    TrashPage,
    parse_task_id,
)
from persistence.task_orders import position_of, trash_position_of
from persistence.tasks import Task
from rest import task_examples as examples
from rest.idempotency import PARAMETER as KEY_PARAMETER
from rest.idempotency import REPLAYED, WITH_KEY, Keyed
from rest.lists import (
    LINK,
    PREFERENCE,
    TOTAL,
    IsCountPreferred,
    QueryPairs,
    link_to_next,
    total_headers,
)
from rest.preconditions import (
    Condition,
    IfListChanged,
    IfMatch,
    IfNoneMatch,
    etag,
    header_parameter,
    list_etag,
)
from rest.problem_documents import (
    BODY_ERRORS,
    KEY_ERRORS,
    RESOURCE_ERRORS,
    error_responses,
)
from rest.responses import success
from rest.route import AuthenticatedRoute, Db, PathParser, Reader, Relative, Writer
from rest.task_documents import (
    ChangedTasksDocument,
    TaskDocument,
    TaskPageDocument,
    encode_changes,
    encode_deleted_tasks,
    encode_task,
    encode_tasks,
)

router: Final = APIRouter(
    route_class=AuthenticatedRoute,
    tags=["tasks"],
    responses=RESOURCE_ERRORS,
    generate_unique_id_function=lambda route: route.name,
)


class _TaskSegment(Convertor[str]):
    """A path segment that can be a task's id: any, except the collection's own sub-paths.

    Without the exception, ``GET /tasks/bulk-delete`` would be 400 for its id instead of 405.
    """

    regex = r"(?!(?:bulk-(?:create|update|delete)|changes|events|trash)(?:/|\Z))[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("task_segment", _TaskSegment())

_COLLECTION: Final = "/tasks"
_TRASH: Final = "/tasks/trash"
_TASK: Final = "/tasks/{task_id:task_segment}"

Id = Annotated[
    TaskId,
    Path(alias="task_id", ge=1, le=MAX_ID, description="The task's id."),
    PathParser(parse_task_id),
]

_ETAG: Final = {"ETag": {"schema": {"type": "string"}, "description": 'The version: `"1"`.'}}
_SYNC: Final = {
    "ETag": {"schema": {"type": "string"}, "description": "Another one after each change."},
    "Sync-Token": {
        "schema": {"type": "string"},
        "description": "What changes after this list is in `/tasks/changes?since=` and this.",
    },
}
_LOCATION: Final = {
    "Location": {
        "schema": {"type": "string"},
        "description": "The new task, as a relative reference: `tasks/{id}` from `/tasks`.",
    }
}
_IF_MATCH: Final = header_parameter("If-Match", "Only at one of these versions; otherwise 412.")
_IF_MATCH["parameters"].append(KEY_PARAMETER)
_IF_NONE_MATCH: Final = header_parameter(
    "If-None-Match", "Unless it is at one of these versions: 304."
)

_LIST_PARAMETERS: Final = header_parameter(
    "If-None-Match", "Unless the list still has one of these entity tags: 304."
)
_LIST_PARAMETERS["parameters"] += PREFERENCE["parameters"]


class Enveloped(BaseModel):
    """The form of a list."""

    envelope: Annotated[
        bool,
        BeforeValidator(text_boolean),
        Field(description="Respond with an object that has the next cursor, instead of an array."),
        WithJsonSchema({"type": "boolean", "default": False}),
    ] = False


class ListQuery(Enveloped, Page):
    """The query of a list: which tasks, and in which form."""


@router.get(
    _COLLECTION,
    response_model=list[TaskDocument] | TaskPageDocument,
    openapi_extra=_LIST_PARAMETERS,
    responses={
        200: success("Your tasks, in the order that you asked for.", LINK | TOTAL | _SYNC),
        304: success("You have it already.", _SYNC),
    },
)
async def list_tasks(
    query: Annotated[ListQuery, Query()],
    pairs: QueryPairs,
    is_count_preferred: IsCountPreferred,
    if_none_match: IfListChanged,
    viewer: Reader,
    db: Db,
) -> Response:
    """List your tasks, newest first: an array, or with `envelope=true` an object."""
    page = await tasks.list_changed_page(db, viewer, query, if_none_match.token)
    token = page.token if page else if_none_match.token
    assert token
    if page is None or if_none_match.matches_all:
        return BytesResponse(b"", 304, _sync(token))
    cursor = None
    if page.has_more:
        cursor = encode_cursor(position_of(page.tasks[-1], query.ordered))
    headers = [*_sync(token), *link_to_next(pairs, cursor)]
    if is_count_preferred:
        headers += total_headers(await tasks.count(db, viewer, query))
    return _list(encode_tasks(page.tasks), query.envelope, cursor, headers)


def _list(
    rows: bytes, is_enveloped: bool, cursor: str | None, headers: list[tuple[bytes, bytes]]
) -> Response:
    body = rows
    if is_enveloped:
        body = b'{"items":%b,"next_cursor":%b}' % (rows, encode_json(cursor))
    return BytesResponse(body, 200, [JSON_TYPE, *headers])


def _sync(token: SyncToken) -> list[tuple[bytes, bytes]]:
    return [(b"sync-token", encode_token(token).encode()), (b"etag", list_etag(token).encode())]


@router.get(
    f"{_COLLECTION}/changes",
    response_model=ChangedTasksDocument,
    responses={
        200: {"description": "What changed, in the order of the last change of each task."},
        **error_responses(SyncTokenExpired),
    },
)
async def list_changes(query: Annotated[ChangesPage, Query()], viewer: Reader, db: Db) -> Response:
    """List your tasks that changed since a token, each once, as it is now.

    `GET /tasks/events` sends the same as it happens, as server-sent events.
    """
    changes = await feeds.changes(db, viewer, query.position, query.limit)
    return BytesResponse(encode_changes(changes), 200, [JSON_TYPE])


@router.post(
    _COLLECTION,
    response_model=TaskDocument,
    status_code=201,
    openapi_extra=WITH_KEY,
    responses={
        201: success("The task.", _ETAG | _LOCATION | REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def create_task(
    new: Annotated[NewTask, Body(openapi_examples=examples.NEW)],
    keyed: Keyed,
    viewer: Writer,
    db: Db,
    relative: Relative,
) -> Response:
    """Add a task to your list."""
    task = await tasks.create(db, viewer, new, keyed and keyed.write(new.model_dump()))
    location = relative(f"{_COLLECTION}/{task.id}").encode()
    return _task(task, 201, (b"location", location))


class TrashQuery(Enveloped, TrashPage):
    """The query of the trash: which tasks, and in which form."""


@router.get(
    _TRASH,
    response_model=list[TaskDocument] | TaskPageDocument,
    responses={200: success("Your deleted tasks, last deleted first.", LINK)},
)
async def list_trash(
    query: Annotated[TrashQuery, Query()], pairs: QueryPairs, viewer: Reader, db: Db
) -> Response:
    """List your deleted tasks, last deleted first: an array, or with `envelope=true` an object."""
    page = await tasks.list_trash(db, viewer, query)
    cursor = encode_cursor(trash_position_of(page.tasks[-1])) if page.has_more else None
    rows = encode_deleted_tasks(page.tasks)
    return _list(rows, query.envelope, cursor, link_to_next(pairs, cursor))


@router.delete(
    _TRASH,
    status_code=204,
    openapi_extra=WITH_KEY,
    responses={204: success("The trash is empty.", REPLAYED), **KEY_ERRORS},
)
async def empty_trash(keyed: Keyed, viewer: Writer, db: Db) -> Response:
    """Delete all tasks in your trash for good, at once."""
    await tasks.empty_trash(db, viewer, keyed and keyed.write())
    return BytesResponse(b"", 204, [])


@router.post(
    f"{_TASK}/restore",
    response_model=TaskDocument,
    openapi_extra=WITH_KEY,
    responses={
        200: success("The task, which has its next version.", _ETAG | REPLAYED),
        **error_responses(NotFound),
        **KEY_ERRORS,
    },
)
async def restore_task(task_id: Id, keyed: Keyed, viewer: Writer, db: Db) -> Response:
    """Take one of your tasks out of the trash."""
    return _task(await tasks.restore(db, viewer, task_id, keyed and keyed.write()), 200)


@router.get(
    _TASK,
    response_model=TaskDocument,
    openapi_extra=_IF_NONE_MATCH,
    responses={
        200: success("The task.", _ETAG),
        304: success("You have it already.", _ETAG),
        **error_responses(NotFound),
    },
)
async def get_task(task_id: Id, if_none_match: IfNoneMatch, viewer: Reader, db: Db) -> Response:
    """Read one of your tasks."""
    task = await tasks.get(db, viewer, task_id)
    if if_none_match and if_none_match.matches(task.version):
        return _not_modified(task)
    return _task(task, 200, *_CACHEABLE)


_UPDATE: Final[dict[str, Any]] = {
    "response_model": TaskDocument,
    "openapi_extra": _IF_MATCH,
    "responses": {
        200: success("The task.", _ETAG | REPLAYED),
        **error_responses(NotFound, VersionConflict),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
}


@router.put(_TASK, name="put_task", summary="Update Task by PUT", **_UPDATE)
@router.patch(_TASK, **_UPDATE)
async def update_task(
    task_id: Id,
    changes: Annotated[TaskChanges, Body(openapi_examples=examples.CHANGES)],
    if_match: IfMatch,
    keyed: Keyed,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change one of your tasks, by PUT as by PATCH: what you leave out stays as it is."""
    idempotency = keyed and keyed.write(changes.provided(), _versions(if_match))
    return _task(
        await tasks.change(db, viewer, task_id, changes, if_match.versions, idempotency), 200
    )


@router.delete(
    _TASK,
    status_code=204,
    openapi_extra=_IF_MATCH,
    responses={
        204: success("The task is in the trash.", REPLAYED),
        **error_responses(NotFound, VersionConflict),
        **KEY_ERRORS,
    },
)
async def delete_task(
    task_id: Id, if_match: IfMatch, keyed: Keyed, viewer: Writer, db: Db
) -> Response:
    """Put one of your tasks into the trash."""
    await tasks.remove(
        db, viewer, task_id, if_match.versions, keyed and keyed.write(_versions(if_match))
    )
    return BytesResponse(b"", 204, [])


def _versions(condition: Condition) -> list[int] | None:
    """The versions of a condition in one order, for a fingerprint."""
    return None if condition.versions is None else sorted({*condition.versions})


def _task(task: Task, status: int, *headers: tuple[bytes, bytes]) -> Response:
    return BytesResponse(encode_task(task), status, [JSON_TYPE, _etag(task), *headers])


def _not_modified(task: Task) -> Response:
    return BytesResponse(b"", 304, [_etag(task), *_CACHEABLE])


def _etag(task: Task) -> tuple[bytes, bytes]:
    return b"etag", etag(task.version)


# A browser may store a task, must revalidate it before each use, and stores one per session and
# origin (the CORS middleware adds Origin to Vary).
_CACHEABLE: Final = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]
