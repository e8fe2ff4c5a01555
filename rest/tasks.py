"""The routes of ``/tasks``: the inputs of each, the function that it calls, and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from api.charges import ONE_WRITE, Cost, cost_of_new
from api.http.bytes_response import JSON_TYPE, BytesResponse
from api.http.json import encode_json
from persistence import tasks
from persistence.cursors import encode_cursor
from persistence.errors import NotFound, VersionConflict
from persistence.task_inputs import (
    MAX_NEW,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    NewTask,
    Page,
    TaskChanges,
    TaskId,
    TrashPage,
    parse_task_id,
)
from persistence.task_orders import position_of, trash_position_of
from persistence.tasks import Task
from persistence.validation import MAX_ID, text_boolean
from rest import task_examples as examples
from rest.idempotency import PARAMETER as KEY_PARAMETER
from rest.idempotency import REPLAYED, OnceOf
from rest.lists import (
    LINK,
    PREFERENCE,
    TOTAL,
    IsCountPreferred,
    QueryPairs,
    link_to_next,
    total_headers,
)
from rest.preconditions import Condition, IfMatch, IfNoneMatch, etag, header_parameter
from rest.problem_documents import BODY_ERRORS, KEY_ERRORS, RESOURCE_ERRORS, error_responses
from rest.route import AuthenticatedRoute, BodyCost, Db, PathParser, Reader, Relative, Writer
from rest.task_documents import (
    BulkDeleteResultDocument,
    BulkUpdateResultDocument,
    TaskDocument,
    TaskPageDocument,
    encode_deleted,
    encode_deleted_tasks,
    encode_task,
    encode_tasks,
    encode_updated,
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

    regex = r"(?!(?:bulk-(?:create|update|delete)|trash)(?:/|\Z))[^/]+"

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
_LOCATION: Final = {
    "Location": {
        "schema": {"type": "string"},
        "description": "The new task, as a relative reference: `tasks/{id}` from `/tasks`.",
    }
}
_IF_MATCH: Final = header_parameter("If-Match", "Only at one of these versions; otherwise 412.")
_IF_MATCH["parameters"].append(KEY_PARAMETER)
_KEY: Final = {"parameters": [KEY_PARAMETER]}
_IF_NONE_MATCH: Final = header_parameter(
    "If-None-Match", "Unless it is at one of these versions: 304."
)


def _success(description: str, headers: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": headers}


class Enveloped(BaseModel):
    """The form of a list."""

    envelope: Annotated[
        bool,
        BeforeValidator(text_boolean),
        Field(description="Answer with an object that has the next cursor, instead of an array."),
        WithJsonSchema({"type": "boolean", "default": False}),
    ] = False


class ListQuery(Enveloped, Page):
    """The query of a list: which tasks, and in which form."""


@router.get(
    _COLLECTION,
    response_model=list[TaskDocument] | TaskPageDocument,
    openapi_extra=PREFERENCE,
    responses={200: _success("Your tasks, in the order that you asked for.", LINK | TOTAL)},
)
async def list_tasks(
    query: Annotated[ListQuery, Query()],
    pairs: QueryPairs,
    is_count_preferred: IsCountPreferred,
    viewer: Reader,
    db: Db,
) -> Response:
    """List your tasks, newest first: an array, or with `envelope=true` an object."""
    page = await tasks.list_page(db, viewer, query)
    cursor = None
    if page.has_more:
        cursor = encode_cursor(position_of(page.tasks[-1], query.ordered))
    headers = link_to_next(pairs, cursor)
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


@router.post(
    _COLLECTION,
    response_model=TaskDocument,
    status_code=201,
    openapi_extra=_KEY,
    responses={
        201: _success("The task.", _ETAG | _LOCATION | REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def create_task(
    new: Annotated[NewTask, Body(openapi_examples=examples.NEW)],
    once: OnceOf,
    viewer: Writer,
    db: Db,
    relative: Relative,
) -> Response:
    """Add a task to your list."""
    task = await tasks.create(db, viewer, new, once and once(new.model_dump()))
    location = relative(f"{_COLLECTION}/{task.id}").encode()
    return _task(task, 201, (b"location", location))


def _cost_of_new(body: object) -> Cost:
    new = body.get("tasks") if isinstance(body, dict) else None
    return cost_of_new(len(new)) if isinstance(new, list) and len(new) <= MAX_NEW else ONE_WRITE


@router.post(
    f"{_COLLECTION}/bulk-create",
    response_model=list[TaskDocument],
    status_code=201,
    openapi_extra=_KEY,
    responses={
        201: _success("The tasks, in the order given.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_create_tasks(
    bulk: Annotated[
        BulkCreate, Body(openapi_examples=examples.BULK_CREATE), BodyCost(_cost_of_new)
    ],
    once: OnceOf,
    viewer: Writer,
    db: Db,
) -> Response:
    """Add many tasks to your list at once: all of them or none; one write for every 20 begun."""
    request = once and once([new.model_dump() for new in bulk.tasks])
    created = await tasks.create_many(db, viewer, bulk.tasks, request)
    return BytesResponse(encode_tasks(created), 201, [JSON_TYPE])


@router.post(
    f"{_COLLECTION}/bulk-update",
    response_model=BulkUpdateResultDocument,
    openapi_extra=_KEY,
    responses={
        200: _success("The tasks as they are now, and which were not yours.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_update_tasks(
    bulk: Annotated[BulkUpdate, Body(openapi_examples=examples.BULK_UPDATE)],
    once: OnceOf,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change many of your tasks in the same way, at once."""
    request = once and once(bulk.task_ids, bulk.changes.provided())
    updated = await tasks.change_many(db, viewer, bulk.task_ids, bulk.changes, request)
    return BytesResponse(encode_updated(updated), 200, [JSON_TYPE])


@router.post(
    f"{_COLLECTION}/bulk-delete",
    response_model=BulkDeleteResultDocument,
    openapi_extra=_KEY,
    responses={
        200: _success("Which are gone, and which were not yours.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_delete_tasks(
    bulk: Annotated[BulkDelete, Body(openapi_examples=examples.BULK_DELETE)],
    once: OnceOf,
    viewer: Writer,
    db: Db,
) -> Response:
    """Put many of your tasks into the trash at once."""
    deleted = await tasks.remove_many(db, viewer, bulk.task_ids, once and once(bulk.task_ids))
    return BytesResponse(encode_deleted(deleted), 200, [JSON_TYPE])


class TrashQuery(Enveloped, TrashPage):
    """The query of the trash: which tasks, and in which form."""


@router.get(
    _TRASH,
    response_model=list[TaskDocument] | TaskPageDocument,
    responses={200: _success("Your deleted tasks, last deleted first.", LINK)},
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
    openapi_extra=_KEY,
    responses={204: _success("The trash is empty.", REPLAYED), **KEY_ERRORS},
)
async def empty_trash(once: OnceOf, viewer: Writer, db: Db) -> Response:
    """Delete all tasks in your trash for good, at once."""
    await tasks.empty_trash(db, viewer, once and once())
    return BytesResponse(b"", 204, [])


@router.post(
    f"{_TASK}/restore",
    response_model=TaskDocument,
    openapi_extra=_KEY,
    responses={
        200: _success("The task, which has its next version.", _ETAG | REPLAYED),
        **error_responses(NotFound),
        **KEY_ERRORS,
    },
)
async def restore_task(task_id: Id, once: OnceOf, viewer: Writer, db: Db) -> Response:
    """Take one of your tasks out of the trash."""
    return _task(await tasks.restore(db, viewer, task_id, once and once()), 200)


@router.get(
    _TASK,
    response_model=TaskDocument,
    openapi_extra=_IF_NONE_MATCH,
    responses={
        200: _success("The task.", _ETAG),
        304: _success("You have it already.", _ETAG),
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
        200: _success("The task.", _ETAG | REPLAYED),
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
    once: OnceOf,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change one of your tasks, by PUT as by PATCH: what you leave out stays as it is."""
    request = once and once(changes.provided(), _versions(if_match))
    return _task(await tasks.change(db, viewer, task_id, changes, if_match.versions, request), 200)


@router.delete(
    _TASK,
    status_code=204,
    openapi_extra=_IF_MATCH,
    responses={
        204: _success("The task is in the trash.", REPLAYED),
        **error_responses(NotFound, VersionConflict),
        **KEY_ERRORS,
    },
)
async def delete_task(
    task_id: Id, if_match: IfMatch, once: OnceOf, viewer: Writer, db: Db
) -> Response:
    """Put one of your tasks into the trash."""
    await tasks.remove(db, viewer, task_id, if_match.versions, once and once(_versions(if_match)))
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
