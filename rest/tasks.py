"""The routes of ``/tasks``: the inputs of each, the function that it calls, and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query
from fastapi.openapi.models import Example
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from api.http.bytes_response import JSON_TYPE, BytesResponse
from api.http.json import encode_json
from persistence import tasks
from persistence.cursors import encode_cursor
from persistence.errors import NotFound, VersionConflict
from persistence.task_inputs import BulkDelete, NewTask, Page, TaskChanges, TaskId, parse_task_id
from persistence.task_orders import position_of
from persistence.tasks import Task
from persistence.validation import MAX_ID, text_boolean
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
from rest.route import AuthenticatedRoute, Db, PathParser, Reader, Relative, Writer
from rest.task_documents import (
    BulkDeleteResultDocument,
    TaskDocument,
    TaskPageDocument,
    encode_deleted,
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

    regex = r"(?!bulk-delete(?:/|\Z))[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("task_segment", _TaskSegment())

_COLLECTION: Final = "/tasks"
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


# What people send; without them, tools would show every member with a made-up value.
_NEW: Final[dict[str, Example]] = {
    "title": {"summary": "A title", "value": {"title": "Water the plants"}},
    "description": {
        "summary": "A title and a description",
        "value": {"title": "Water the plants", "description": "The fern needs little."},
    },
}
_CHANGES: Final[dict[str, Example]] = {
    "complete": {"summary": "Complete it", "value": {"completed": True}},
    "rename": {"summary": "Rename it", "value": {"title": "Water the basil"}},
}
_BULK: Final[dict[str, Example]] = {
    "three": {"summary": "Three tasks", "value": {"task_ids": [1, 2, 3]}}
}


def _success(description: str, headers: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": headers}


class ListQuery(Page):
    """The query of a list: which tasks, and in which form."""

    envelope: Annotated[
        bool,
        BeforeValidator(text_boolean),
        Field(description="Answer with an object that has the next cursor, instead of an array."),
        WithJsonSchema({"type": "boolean", "default": False}),
    ] = False


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
    body = encode_tasks(page.tasks)
    if query.envelope:
        body = b'{"items":%b,"next_cursor":%b}' % (body, encode_json(cursor))
    headers = [JSON_TYPE, *link_to_next(pairs, cursor)]
    if is_count_preferred:
        headers += total_headers(await tasks.count(db, viewer, query))
    return BytesResponse(body, 200, headers)


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
    new: Annotated[NewTask, Body(openapi_examples=_NEW)],
    once: OnceOf,
    viewer: Writer,
    db: Db,
    relative: Relative,
) -> Response:
    """Add a task to your list."""
    task = await tasks.create(db, viewer, new, once and once(new.model_dump()))
    location = relative(f"{_COLLECTION}/{task.id}").encode()
    return _task(task, 201, (b"location", location))


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
    bulk: Annotated[BulkDelete, Body(openapi_examples=_BULK)], once: OnceOf, viewer: Writer, db: Db
) -> Response:
    """Delete many of your tasks at once."""
    deleted = await tasks.remove_many(db, viewer, bulk.task_ids, once and once(bulk.task_ids))
    return BytesResponse(encode_deleted(deleted), 200, [JSON_TYPE])


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
    changes: Annotated[TaskChanges, Body(openapi_examples=_CHANGES)],
    if_match: IfMatch,
    once: OnceOf,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change one of your tasks, by PUT as by PATCH: what you leave out stays as it is."""
    given = once and once(changes.provided(), _versions(if_match))
    return _task(await tasks.change(db, viewer, task_id, changes, if_match.versions, given), 200)


@router.delete(
    _TASK,
    status_code=204,
    openapi_extra=_IF_MATCH,
    responses={
        204: _success("The task is gone.", REPLAYED),
        **error_responses(NotFound, VersionConflict),
        **KEY_ERRORS,
    },
)
async def delete_task(
    task_id: Id, if_match: IfMatch, once: OnceOf, viewer: Writer, db: Db
) -> Response:
    """Delete one of your tasks."""
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
