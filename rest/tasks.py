"""The routes of ``/tasks``: what each takes, the one function it calls, the answer it gives."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Query
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from api.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from persistence import tasks
from persistence.errors import NotFound, VersionConflict
from persistence.task_inputs import BulkDelete, NewTask, Page, TaskChanges, encode_cursor
from persistence.tasks import Task, TaskPage
from rest.errors import EVERY_OPERATION, problems
from rest.preconditions import IfMatch, IfNoneMatch, documented, etag
from rest.route import Db, Id, Operation, Reader, Writer
from rest.task_documents import (
    DeletedDocument,
    TaskDocument,
    encode_deleted,
    encode_task,
    encode_tasks,
)


class _TaskSegment(Convertor[str]):
    """One segment of a path, but for those that are paths of their own."""

    regex = r"(?!bulk-delete(?:/|\Z))[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("task_segment", _TaskSegment())

router: Final = APIRouter(
    route_class=Operation,
    tags=["tasks"],
    responses=EVERY_OPERATION,
    generate_unique_id_function=lambda route: route.name,
)

_COLLECTION: Final = "/tasks"
_TASK: Final = "/tasks/{task_id:task_segment}"

_WITH_BODY: Final = problems(BodyTooSlow, BodyTooLarge, UnsupportedMediaType)
_ETAG: Final = {"ETag": {"schema": {"type": "string"}, "description": 'The version: `"1"`.'}}
_LINK: Final = {
    "Link": {
        "schema": {"type": "string"},
        "description": 'When there are more: `</tasks?cursor=…>; rel="next"`.',
    }
}
_LOCATION: Final = {"Location": {"schema": {"type": "string"}, "description": "`/tasks/{id}`"}}
_IF_MATCH: Final = documented("If-Match", "Only at one of these versions; otherwise 412.")
_IF_NONE_MATCH: Final = documented("If-None-Match", "Unless it is at one of these versions: 304.")


def _answered(description: str, headers: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": headers}


@router.get(
    _COLLECTION,
    response_model=list[TaskDocument],
    responses={200: _answered("Your tasks, newest first.", _LINK)},
)
async def list_tasks(page: Annotated[Page, Query()], viewer: Reader, db: Db) -> Response:
    """List your tasks, newest first."""
    found = await tasks.list_page(db, viewer, page)
    return _json(encode_tasks(found.tasks), headers=_link_to_next(page, found))


@router.post(
    _COLLECTION,
    response_model=TaskDocument,
    status_code=201,
    responses={201: _answered("The task.", _ETAG | _LOCATION), **_WITH_BODY},
)
async def create_task(new: Annotated[NewTask, Body()], viewer: Writer, db: Db) -> Response:
    """Add a task to your list."""
    task = await tasks.create(db, viewer, new)
    return _task(task, status=201, headers={"location": f"{_COLLECTION}/{task.id}"})


@router.post(
    f"{_COLLECTION}/bulk-delete",
    response_model=DeletedDocument,
    responses={200: {"description": "Which are gone, and which were not yours."}, **_WITH_BODY},
)
async def bulk_delete_tasks(
    wanted: Annotated[BulkDelete, Body()], viewer: Writer, db: Db
) -> Response:
    """Delete many of your tasks at once."""
    return _json(encode_deleted(await tasks.remove_many(db, viewer, wanted.task_ids)))


@router.get(
    _TASK,
    response_model=TaskDocument,
    openapi_extra=_IF_NONE_MATCH,
    responses={
        200: _answered("The task.", _ETAG),
        304: _answered("You have it already.", _ETAG),
        **problems(NotFound),
    },
)
async def get_task(task_id: Id, known: IfNoneMatch, viewer: Reader, db: Db) -> Response:
    """Read one of your tasks."""
    task = await tasks.get(db, viewer, task_id)
    if known and known.holds_for(task.version):
        return Response(status_code=304, headers=_MAY_BE_KEPT | {"etag": etag(task.version)})
    return _task(task, headers=_MAY_BE_KEPT)


_CHANGING: Final[dict[str, Any]] = {
    "response_model": TaskDocument,
    "openapi_extra": _IF_MATCH,
    "responses": {
        200: _answered("The task.", _ETAG),
        **problems(NotFound, VersionConflict),
        **_WITH_BODY,
    },
}


@router.put(_TASK, name="replace_task", summary="Replace Task", **_CHANGING)
@router.patch(_TASK, **_CHANGING)
async def update_task(
    task_id: Id,
    changes: Annotated[TaskChanges, Body()],
    wanted: IfMatch,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change one of your tasks, by PUT as by PATCH: what you leave out stays as it is."""
    return _task(await tasks.change(db, viewer, task_id, changes, wanted.versions))


@router.delete(
    _TASK,
    status_code=204,
    openapi_extra=_IF_MATCH,
    responses=problems(NotFound, VersionConflict),
)
async def delete_task(task_id: Id, wanted: IfMatch, viewer: Writer, db: Db) -> Response:
    """Delete one of your tasks."""
    await tasks.remove(db, viewer, task_id, wanted.versions)
    return Response(status_code=204)


# A browser may keep a task, asks before each use, and keeps one per person and (which the CORS
# layer adds to Vary) origin.
_MAY_BE_KEPT: Final = {"cache-control": "private, no-cache", "vary": "Authorization"}


def _task(task: Task, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _json(encode_task(task), status, {"etag": etag(task.version), **(headers or {})})


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def _link_to_next(page: Page, found: TaskPage) -> dict[str, str]:
    """A relative reference (RFC 8288), which holds behind any proxy, under any host name."""
    if not found.has_more:
        return {}
    query: dict[str, Any] = {"limit": page.limit} if "limit" in page.model_fields_set else {}
    if page.completed is not None:
        query["completed"] = "true" if page.completed else "false"
    query["cursor"] = encode_cursor(found.tasks[-1].position)
    return {"link": f'<{_COLLECTION}?{urlencode(query)}>; rel="next"'}
