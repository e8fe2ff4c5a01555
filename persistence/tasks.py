"""What a viewer can do with tasks. Each function runs one statement; knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from persistence import task_sql
from persistence.database import Database
from persistence.idempotency import Once, write
from persistence.sql import Statement, as_text, changed_row, new_value_arguments, one_row
from persistence.task_fields import EDITABLE
from persistence.task_fields import Task as Task  # Callers read ``tasks.Task``.
from persistence.task_inputs import NewTask, Page, TaskChanges, TaskFilter, TaskId, TrashPage
from persistence.validation import MAX_ID
from persistence.viewer import Viewer


class TaskPage(NamedTuple):
    """A part of the list, and whether there is more after it."""

    tasks: list[Task]
    has_more: bool


class Deleted(NamedTuple):
    """The result of a bulk deletion. Both lists are in the order of the request."""

    deleted: list[int]
    not_found: list[int]


class Updated(NamedTuple):
    """The result of a bulk change. Both lists are in the order of the request.

    Attributes:
        updated: the tasks as they are now, changed or not.
    """

    updated: list[Task]
    not_found: list[int]


class Reassigned(NamedTuple):
    """Tasks that have another owner now.

    Attributes:
        amount: how many.
        last: the highest of their ids; ``None`` if there are none.
    """

    amount: int
    last: int | None


async def reassign(db: Database, old: str, new: str, after: int, limit: int) -> Reassigned:
    """Give tasks of the user ``old`` to the user ``new``; each gets its next version.

    Args:
        after: an id; only tasks with higher ones.
        limit: how many at most, the lowest ids first.
    """
    [record] = await db.write(task_sql.REASSIGN, old=old, new=new, after=after, limit=limit)
    return Reassigned(*record)


async def list_page(db: Database, viewer: Viewer, page: Page) -> TaskPage:
    """The viewer's tasks, newest first: a page of at most ``page.limit`` tasks.

    ``has_more`` tells whether there are more in the direction of reading.
    """
    values = page.position._asdict() if page.position else {}
    if page.completed is not None:
        values["completed"] = page.completed
    # One more than the limit shows whether there is more.
    records = await db.read(
        task_sql.LIST[page.completed is not None, page.cursor is not None, page.backward],
        user_id=viewer.user_id,
        limit=page.limit + 1,
        **values,
    )
    tasks = [Task(*record) for record in records[: page.limit]]
    if page.backward:
        tasks.reverse()
    return TaskPage(tasks, len(records) > page.limit)


async def count(db: Database, viewer: Viewer, query: TaskFilter) -> int:
    """How many of the viewer's tasks pass the filter."""
    [record] = await db.read(task_sql.COUNT, user_id=viewer.user_id, completed=query.completed)
    total: int = record[0]
    return total


async def get(db: Database, viewer: Viewer, task_id: TaskId) -> Task:
    """One of the viewer's tasks.

    Raises:
        NotFound: the viewer has no such task.
    """
    records = await db.read(task_sql.GET, user_id=viewer.user_id, id=task_id)
    return Task(*one_row(records, "Task", task_id))


async def create(db: Database, viewer: Viewer, new: NewTask, once: Once | None = None) -> Task:
    """Add a task to the viewer's list.

    Args:
        once: with an idempotency key, here and below: ``persistence.idempotency.write``.
    """
    values = {name: getattr(new, name) for name in EDITABLE}
    [record] = await write(db, task_sql.CREATE, once, _TYPES, user_id=viewer.user_id, **values)
    return Task(*record)


async def create_many(
    db: Database, viewer: Viewer, new: Sequence[NewTask], once: Once | None = None
) -> list[Task]:
    """Add tasks to the viewer's list: all of them or none, in the order given."""
    rows = [
        {"position": position, **{name: getattr(each, name) for name in EDITABLE}}
        for position, each in enumerate(new)
    ]
    records = await write(
        db,
        task_sql.CREATE_MANY,
        once,
        _TYPES,
        user_id=viewer.user_id,
        rows=msgspec.json.encode(rows).decode(),
    )
    return sorted((Task(*record) for record in records), key=lambda task: task.id)


_TYPES: Final = get_type_hints(Task)


async def change(
    db: Database,
    viewer: Viewer,
    task_id: TaskId,
    changes: TaskChanges,
    versions: Sequence[int] | None = None,
    once: Once | None = None,
) -> Task:
    """Change one of the viewer's tasks.

    If every member already has its new value, nothing changes, the version included.

    Args:
        versions: the versions at which the client allows the change; ``None`` means any.

    Raises:
        NotFound: the viewer has no such task. This is decided before the version.
        VersionConflict: the task is at another version.
    """
    values = new_value_arguments(EDITABLE, changes.provided())
    return await _write_at(db, task_sql.CHANGE, viewer, task_id, versions, once, **values)


async def _write_at(
    db: Database,
    statements: Mapping[bool, Statement],
    viewer: Viewer,
    task_id: TaskId,
    versions: Sequence[int] | None,
    once: Once | None,
    **values: Any,
) -> Task:
    records = await write(
        db,
        statements,
        once,
        _TYPES,
        user_id=viewer.user_id,
        id=task_id,
        versions=as_text(versions),
        **values,
    )
    return Task(*changed_row(records, "Task", task_id, versions))


async def remove(
    db: Database,
    viewer: Viewer,
    task_id: TaskId,
    versions: Sequence[int] | None = None,
    once: Once | None = None,
) -> Task:
    """Put one of the viewer's tasks into the trash, and return it as it was.

    Args:
        versions: the versions at which the client allows the deletion; ``None`` means any.

    Raises:
        NotFound: the viewer has no such task. This is decided before the version.
        VersionConflict: the task is at another version.
    """
    return await _write_at(db, task_sql.REMOVE, viewer, task_id, versions, once)


async def change_many(
    db: Database,
    viewer: Viewer,
    ids: Iterable[int],
    changes: TaskChanges,
    once: Once | None = None,
) -> Updated:
    """Change those of the tasks that the viewer has. A repeated id counts once.

    A task that already has every new value stays as it is, the version included.
    """
    unique = list(dict.fromkeys(ids))
    records = await write(
        db,
        task_sql.CHANGE_MANY,
        once,
        _TYPES,
        user_id=viewer.user_id,
        ids=_possible(unique),
        **new_value_arguments(EDITABLE, changes.provided()),
    )
    updated = {task.id: task for task in (Task(*values) for _, *values in records)}
    return Updated(
        updated=[updated[task_id] for task_id in unique if task_id in updated],
        not_found=[task_id for task_id in unique if task_id not in updated],
    )


def _possible(ids: Iterable[int]) -> list[str] | None:
    """Those that a task can have, as the value of an ``integer_list``."""
    return as_text([task_id for task_id in ids if 1 <= task_id <= MAX_ID])


async def remove_many(
    db: Database, viewer: Viewer, ids: Iterable[int], once: Once | None = None
) -> Deleted:
    """Put those of the tasks that the viewer has into the trash. A repeated id counts once."""
    unique = list(dict.fromkeys(ids))
    records = await write(
        db,
        task_sql.REMOVE_MANY,
        once,
        _TYPES,
        user_id=viewer.user_id,
        ids=_possible(unique),
    )
    removed = {record[0] for record in records}
    return Deleted(
        deleted=[task_id for task_id in unique if task_id in removed],
        not_found=[task_id for task_id in unique if task_id not in removed],
    )


# --- The trash ----------------------------------------------------------------------------


async def list_trash(db: Database, viewer: Viewer, page: TrashPage) -> TaskPage:
    """The viewer's deleted tasks, last deleted first: at most ``page.limit``."""
    position = page.position
    values = {"deleted_at": position.created_at, "id": position.id} if position else {}
    records = await db.read(
        task_sql.TRASH[page.cursor is not None],
        user_id=viewer.user_id,
        limit=page.limit + 1,
        **values,
    )
    return TaskPage([Task(*record) for record in records[: page.limit]], len(records) > page.limit)


async def count_trash(db: Database, viewer: Viewer) -> int:
    """How many of the viewer's tasks are in the trash."""
    [record] = await db.read(task_sql.COUNT_TRASH, user_id=viewer.user_id)
    total: int = record[0]
    return total


async def restore(db: Database, viewer: Viewer, task_id: TaskId, once: Once | None = None) -> Task:
    """Take one of the viewer's tasks out of the trash; it gets its next version.

    Raises:
        NotFound: the viewer has no such task in the trash.
    """
    records = await write(db, task_sql.RESTORE, once, _TYPES, user_id=viewer.user_id, id=task_id)
    return Task(*one_row(records, "Task", task_id))


async def empty_trash(db: Database, viewer: Viewer, once: Once | None = None) -> int:
    """Delete all tasks in the viewer's trash for good, and return how many they were."""
    [record] = await write(db, task_sql.EMPTY_TRASH, once, _TYPES, user_id=viewer.user_id)
    amount: int = record[0]
    return amount
