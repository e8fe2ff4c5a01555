"""The operations that benchmarks measure. ``tests.surfaces`` encodes them for each protocol."""

from __future__ import annotations

from typing import Final

from benchmarks.client import encode
from tests.operations import (
    Api,
    BulkDelete,
    Change,
    Create,
    Delete,
    Get,
    List,
    Operation,
)
from tests.surfaces import SURFACES

CREATE: Final = Create({"title": "Water the plants"})

GET, CHANGE, DELETE, DELETE_MANY = "get", "change", "delete", "delete many"


def list_of(number: int) -> List:
    """A list of so many tasks."""
    return List({"limit": number})


def on_task(task_id: int) -> dict[str, Operation]:
    """The operations on one task, by name."""
    return {
        GET: Get(task_id),
        CHANGE: Change(task_id, {"completed": True}),
        DELETE: Delete(task_id),
        DELETE_MANY: BulkDelete([task_id]),
    }


def message(api: Api, operation: Operation) -> bytes:
    """The bytes of a request for an operation, as the benchmark's user."""
    return encode(SURFACES[api].encode(operation))
