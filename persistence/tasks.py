"""Reads and writes of tasks, one statement each. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec

from persistence import task_lists, task_sql
from persistence.database import Database
from persistence.idempotency import Once, write
from persistence.search import has_every_word
from persistence.sql import Statement, as_text, changed_row, one_row
from persistence.task_columns import NAMES, arguments, change_arguments
from persistence.task_fields import EDITABLE, DeletedTask
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
from persistence.validation import MAX_ID
from persistence.viewer import Viewer

Row = TypeVar("Row", bound=Task)


class TaskPage(NamedTuple, Generic[Row]):
    """A part of the list or of the trash, and whether there is more after it."""

    tasks: list[Row]
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


async def list_page(db: Database, viewer: Viewer, page: Page) -> TaskPage[Task]:
    """The viewer's tasks that pass a filter: a page of at most ``page.limit``, in its order.

    ``has_more`` tells whether there are more in the direction of reading.
    """
    found: list[Task] = []
    position = page.position
    # One more than the limit shows whether there is more.
    size = page.limit + 1
    while True:
        records = await _list(db, viewer, page, position, size)
        found += _passing(records, page)
        if len(found) > page.limit or len(records) < size:
            break
        # Only where the release before wrote tasks that do not pass the search.
        last = Task(*records[-1][: len(NAMES)])
        position = position_values(position_of(last, page.ordered), page.ordered)
        size = MAX_PAGE + 1
    has_more, tasks = len(found) > page.limit, found[: page.limit]
    if page.backward:
        tasks.reverse()
    return TaskPage(tasks, has_more)


async def _list(
    db: Database, viewer: Viewer, page: Page, position: Mapping[str, Any] | None, limit: int
) -> Sequence[Any]:
    shape = task_lists.shape_of(page, page.ordered, position is not None, page.backward)
    values = {**task_lists.arguments(page), **(position or {})}
    statement = task_lists.list_statement(shape)
    return await db.read(statement, user_id=viewer.user_id, limit=limit, **values)


def _passing(records: Sequence[Any], query: TaskFilter) -> list[Task]:
    """The tasks, without those that a search has to compare here and that do not pass it."""
    if query.q is None:
        return [Task(*record) for record in records]
    found = []
    for *values, is_unsearchable in records:
        task = Task(*values)
        if not is_unsearchable or has_every_word(query.q, [task.title, task.description]):
            found.append(task)
    return found


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
        records = await _list(db, viewer, query, position, MAX_PAGE)
        total += len(_passing(records, query))
        if len(records) < MAX_PAGE:
            return total
        last = Task(*records[-1][: len(NAMES)])
        position = position_values(position_of(last, query.ordered), query.ordered)


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
    [record] = await write(
        db, task_sql.CREATE, once, _TYPES, user_id=viewer.user_id, **_values(new)
    )
    return Task(*record)


def _values(new: NewTask) -> dict[str, Any]:
    return arguments({name: getattr(new, name) for name in EDITABLE})


async def create_many(
    db: Database, viewer: Viewer, new: Sequence[NewTask], once: Once | None = None
) -> list[Task]:
    """Add tasks to the viewer's list: all of them or none, in the order given."""
    rows = [{"position": position, **_values(each)} for position, each in enumerate(new)]
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
    values = change_arguments(changes.provided())
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


async def list_trash(db: Database, viewer: Viewer, page: TrashPage) -> TaskPage[DeletedTask]:
    """The viewer's deleted tasks, last deleted first: at most ``page.limit``."""
    records = await db.read(
        task_sql.TRASH[page.cursor is not None],
        user_id=viewer.user_id,
        limit=page.limit + 1,
        **(page.position or {}),
    )
    found = [DeletedTask(*values, deleted_at=when) for *values, when in records[: page.limit]]
    return TaskPage(found, len(records) > page.limit)


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
