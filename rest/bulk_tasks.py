"""Many tasks at once: create, change and delete them. Knows no SQL."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body
from starlette.responses import Response

from api.charges import ONE_WRITE, Cost, cost_of_new
from api.http.bytes_response import JSON_TYPE, BytesResponse
from persistence import tasks
from persistence.task_inputs import MAX_NEW, BulkCreate, BulkDelete, BulkUpdate
from rest import task_examples as examples
from rest.idempotency import REPLAYED, WITH_KEY, Keyed
from rest.problem_documents import BODY_ERRORS, KEY_ERRORS, RESOURCE_ERRORS
from rest.responses import success
from rest.route import AuthenticatedRoute, BodyCost, Db, Writer
from rest.task_documents import (
    BulkDeleteResultDocument,
    BulkUpdateResultDocument,
    TaskDocument,
    encode_deleted,
    encode_tasks,
    encode_updated,
)

router: Final = APIRouter(
    route_class=AuthenticatedRoute,
    tags=["tasks"],
    responses=RESOURCE_ERRORS,
    generate_unique_id_function=lambda route: route.name,
)


def _cost_of_new(body: object) -> Cost:
    new = body.get("tasks") if isinstance(body, dict) else None
    return cost_of_new(len(new)) if isinstance(new, list) and len(new) <= MAX_NEW else ONE_WRITE


@router.post(
    "/tasks/bulk-create",
    response_model=list[TaskDocument],
    status_code=201,
    openapi_extra=WITH_KEY,
    responses={
        201: success("The tasks, in the order sent.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_create_tasks(
    bulk: Annotated[
        BulkCreate, Body(openapi_examples=examples.BULK_CREATE), BodyCost(_cost_of_new)
    ],
    keyed: Keyed,
    viewer: Writer,
    db: Db,
) -> Response:
    """Add many tasks to your list at once: all of them or none; one write for every 20 begun."""
    idempotency = keyed and keyed.write([new.model_dump() for new in bulk.tasks])
    created = await tasks.create_many(db, viewer, bulk.tasks, idempotency)
    return BytesResponse(encode_tasks(created), 201, [JSON_TYPE])


@router.post(
    "/tasks/bulk-update",
    response_model=BulkUpdateResultDocument,
    openapi_extra=WITH_KEY,
    responses={
        200: success("The tasks as they are now, and which were not yours.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_update_tasks(
    bulk: Annotated[BulkUpdate, Body(openapi_examples=examples.BULK_UPDATE)],
    keyed: Keyed,
    viewer: Writer,
    db: Db,
) -> Response:
    """Change many of your tasks in the same way, at once."""
    idempotency = keyed and keyed.write(bulk.task_ids, bulk.changes.provided())
    updated = await tasks.change_many(db, viewer, bulk.task_ids, bulk.changes, idempotency)
    return BytesResponse(encode_updated(updated), 200, [JSON_TYPE])


@router.post(
    "/tasks/bulk-delete",
    response_model=BulkDeleteResultDocument,
    openapi_extra=WITH_KEY,
    responses={
        200: success("Which are gone, and which were not yours.", REPLAYED),
        **KEY_ERRORS,
        **BODY_ERRORS,
    },
)
async def bulk_delete_tasks(
    bulk: Annotated[BulkDelete, Body(openapi_examples=examples.BULK_DELETE)],
    keyed: Keyed,
    viewer: Writer,
    db: Db,
) -> Response:
    """Put many of your tasks into the trash at once."""
    deleted = await tasks.remove_many(
        db, viewer, bulk.task_ids, keyed and keyed.write(bulk.task_ids)
    )
    return BytesResponse(encode_deleted(deleted), 200, [JSON_TYPE])
