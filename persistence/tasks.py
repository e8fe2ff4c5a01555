"""Reads and writes of tasks, one statement each. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec

from persistence import task_lists, task_sql
from persistence.database import Database
from persistence.field_types import MAX_ID
from persistence.idempotency import IdempotentWrite, write
from persistence.search import has_every_word
from persistence.sql import Record, Statement, as_text, changed_row, one_row
from persistence.sync_tokens import Head, SyncToken, split_head
from persistence.task_columns import NAMES, arguments, change_arguments
from persistence.task_fields import DeletedTask
from persistence.task_fields import Task as Task  # Callers read ``tasks.Task``.
from persistence.task_inputs import (
    MAX_PAGE,
    NewTask,
    Page,
    TaskChanges,
    TaskFilter,
    TaskId,
    TrashPage,
)
from persistence.task_orders import position_of, position_values
from persistence.task_rows import tasks_of
from persistence.viewer import Viewer

Row = TypeVar("Row", bound=Task)


class TaskPage(NamedTuple, Generic[Row]):
    """A part of the list or of the trash.

    Attributes:
        has_more: whether there are more in the direction of reading.
        token: of the changes after it.
    """

    tasks: list[Row]
    has_more: bool
    token: SyncToken


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


async def list_page(db: Database, viewer: Viewer, page: Page) -> TaskPage[Task]:
    """The viewer's tasks that pass a filter: a page of at most ``page.limit``, in its order."""
    fresh = await list_changed_page(db, viewer, page, None)
    assert fresh is not None
    return fresh


async def list_changed_page(
    db: Database, viewer: Viewer, page: Page, known: SyncToken | None
) -> TaskPage[Task] | None:
    """The same, unless the client's copy of the page is the current one: then ``None``.

    Args:
        known: the token of the copy. If it is the current one, no task is read.
    """
    position = page.position
    # One more than the limit shows whether there is more.
    size = page.limit + 1
    head, records = await _list(db, viewer, page, position, size, known)
    if known is not None and head.seq == known.seq:
        if head.token(viewer.user_id) == known:
            return None
        # The number is that of another history.
        head, records = await _list(db, viewer, page, position, size)
    passing = _passing(records, page)
    while len(passing) <= page.limit and len(records) == size:
        # Only where the release before wrote tasks that do not pass the search.
        position, size = _last_position(records, page), MAX_PAGE + 1
        _, records = await _list(db, viewer, page, position, size)
        passing += _passing(records, page)
    has_more, tasks = len(passing) > page.limit, passing[: page.limit]
    if page.backward:
        tasks.reverse()
    # Of the first statement, because none of the others read anything older.
    return TaskPage(tasks, has_more, head.token(viewer.user_id))


async def _list(
    db: Database,
    viewer: Viewer,
    page: Page,
    position: Mapping[str, Any] | None,
    limit: int,
    known: SyncToken | None = None,
) -> tuple[Head, Sequence[Record]]:
    shape = task_lists.shape_of(page, page.ordered, position is not None, page.backward)
    values = {**task_lists.arguments(page), **(position or {})}
    return split_head(
        await db.read(
            task_lists.list_statement(shape),
            user_id=viewer.user_id,
            limit=limit,
            known=-1 if known is None else known.seq,
            **values,
        )
    )


def _last_position(records: Sequence[Record], page: Page) -> dict[str, Any]:
    [last] = tasks_of(records[-1:])
    return position_values(position_of(last, page.ordered), page.ordered)


def _passing(records: Sequence[Any], query: TaskFilter) -> list[Task]:
    """The tasks, without those that a search has to compare here and that do not pass it."""
    tasks = tasks_of(records)
    if query.q is None:
        return tasks
    return [
        task
        for task, record in zip(tasks, records, strict=True)
        if not record[len(NAMES)] or has_every_word(query.q, [task.title, task.description])
    ]


async def count(db: Database, viewer: Viewer, query: TaskFilter) -> int:
    """How many of the viewer's tasks pass the filter."""
    statement = task_lists.count_statement(task_lists.kind_of(query))
    [record] = await db.read(statement, user_id=viewer.user_id, **task_lists.arguments(query))
    total, *unsearchable = record
    if not any(unsearchable):
        return int(total)
    # The release before wrote some of them: compare them here.
    everything = Page.model_construct(**query.members())
    return await _count_pages(db, viewer, everything)


async def _count_pages(db: Database, viewer: Viewer, query: Page) -> int:
    total = 0
    position = None
    while True:
        _, records = await _list(db, viewer, query, position, MAX_PAGE)
        total += len(_passing(records, query))
        if len(records) < MAX_PAGE:
            return total
        position = _last_position(records, query)


async def get(db: Database, viewer: Viewer, task_id: TaskId) -> Task:
    """One of the viewer's tasks.

    Raises:
        NotFound: the viewer has no such task.
    """
    records = await db.read(task_sql.GET, user_id=viewer.user_id, id=task_id)
    return Task(*one_row(records, "Task", task_id))


async def create(
    db: Database, viewer: Viewer, new: NewTask, idempotency: IdempotentWrite | None = None
) -> Task:
    """Add a task to the viewer's list.

    Args:
        idempotency: with an idempotency key, here and below: ``persistence.idempotency.write``.
    """
    [record] = await write(
        db, task_sql.CREATE, idempotency, _TYPES, user_id=viewer.user_id, **arguments(vars(new))
    )
    return Task(*record)


async def create_many(
    db: Database, viewer: Viewer, new: Sequence[NewTask], idempotency: IdempotentWrite | None = None
) -> list[Task]:
    """Add tasks to the viewer's list: all of them or none, in the order sent."""
    rows = [{"position": position, **arguments(vars(each))} for position, each in enumerate(new)]
    records = await write(
        db,
        task_sql.CREATE_MANY,
        idempotency,
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
    idempotency: IdempotentWrite | None = None,
) -> Task:
    """Change one of the viewer's tasks.

    If every member already has its new value, nothing changes, the version included.

    Args:
        versions: the versions at which the client allows the change; ``None`` means any.

    Raises:
        NotFound: the viewer has no such task. This is decided before the version.
        VersionConflict: the task is at another version.
    """
    values = change_arguments(changes.provided())
    return await _write_at(db, task_sql.CHANGE, viewer, task_id, versions, idempotency, **values)


async def _write_at(
    db: Database,
    statements: Mapping[bool, Statement],
    viewer: Viewer,
    task_id: TaskId,
    versions: Sequence[int] | None,
    idempotency: IdempotentWrite | None,
    **values: Any,
) -> Task:
    records = await write(
        db,
        statements,
        idempotency,
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
    idempotency: IdempotentWrite | None = None,
) -> Task:
    """Put one of the viewer's tasks into the trash, and return it as it was.

    Args:
        versions: the versions at which the client allows the deletion; ``None`` means any.

    Raises:
        NotFound: the viewer has no such task. This is decided before the version.
        VersionConflict: the task is at another version.
    """
    return await _write_at(db, task_sql.REMOVE, viewer, task_id, versions, idempotency)


async def change_many(
    db: Database,
    viewer: Viewer,
    ids: Iterable[int],
    changes: TaskChanges,
    idempotency: IdempotentWrite | None = None,
) -> Updated:
    """Change those of the tasks that the viewer has. A repeated id counts once.

    A task that already has every new value stays as it is, the version included.
    """
    unique = list(dict.fromkeys(ids))
    records = await write(
        db,
        task_sql.CHANGE_MANY,
        idempotency,
        _TYPES,
        user_id=viewer.user_id,
        ids=_possible(unique),
        **change_arguments(changes.provided()),
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
    db: Database, viewer: Viewer, ids: Iterable[int], idempotency: IdempotentWrite | None = None
) -> Deleted:
    """Put those of the tasks that the viewer has into the trash. A repeated id counts once."""
    unique = list(dict.fromkeys(ids))
    records = await write(
        db,
        task_sql.REMOVE_MANY,
        idempotency,
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


async def list_trash(db: Database, viewer: Viewer, page: TrashPage) -> TaskPage[DeletedTask]:
    """The viewer's deleted tasks, last deleted first: at most ``page.limit``."""
    head, records = split_head(
        await db.read(
            task_sql.TRASH[page.cursor is not None],
            user_id=viewer.user_id,
            limit=page.limit + 1,
            known=-1,
            **(page.position or {}),
        )
    )
    deleted = [
        DeletedTask(*record[: len(NAMES)], deleted_at=record[len(NAMES)])
        for record in records[: page.limit]
    ]
    return TaskPage(deleted, len(records) > page.limit, head.token(viewer.user_id))


async def count_trash(db: Database, viewer: Viewer) -> int:
    """How many of the viewer's tasks are in the trash."""
    [record] = await db.read(task_sql.COUNT_TRASH, user_id=viewer.user_id)
    total: int = record[0]
    return total


async def restore(
    db: Database, viewer: Viewer, task_id: TaskId, idempotency: IdempotentWrite | None = None
) -> Task:
    """Take one of the viewer's tasks out of the trash; it gets its next version.

    Raises:
        NotFound: the viewer has no such task in the trash.
    """
    records = await write(
        db, task_sql.RESTORE, idempotency, _TYPES, user_id=viewer.user_id, id=task_id
    )
    return Task(*one_row(records, "Task", task_id))


async def empty_trash(
    db: Database, viewer: Viewer, idempotency: IdempotentWrite | None = None
) -> int:
    """Delete all tasks in the viewer's trash for good, and return how many they were."""
    [record] = await write(db, task_sql.EMPTY_TRASH, idempotency, _TYPES, user_id=viewer.user_id)
    amount: int = record[0]
    return amount
