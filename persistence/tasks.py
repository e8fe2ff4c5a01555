"""What a viewer can do with tasks. Each function runs one statement; knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_type_hints

from persistence import task_lists, task_sql
from persistence.database import Database
from persistence.idempotency import Once, write
from persistence.search import has_every_word
from persistence.sql import as_text, changed_row, one_row
from persistence.task_columns import NAMES, arguments, change_arguments
from persistence.task_fields import EDITABLE
from persistence.task_fields import Task as Task  # Callers read ``tasks.Task``.
from persistence.task_inputs import MAX_PAGE, NewTask, Page, TaskChanges, TaskFilter, TaskId
from persistence.task_orders import position_of, position_values
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
    everything = Page.model_construct(**query.given())
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
    values = arguments({name: getattr(new, name) for name in EDITABLE})
    [record] = await write(db, task_sql.CREATE, once, _TYPES, user_id=viewer.user_id, **values)
    return Task(*record)


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
    records = await write(
        db,
        task_sql.CHANGE,
        once,
        _TYPES,
        user_id=viewer.user_id,
        id=task_id,
        versions=as_text(versions),
        **change_arguments(changes.provided()),
    )
    return Task(*changed_row(records, "Task", task_id, versions))


async def remove(
    db: Database,
    viewer: Viewer,
    task_id: TaskId,
    versions: Sequence[int] | None = None,
    once: Once | None = None,
) -> Task:
    """Delete one of the viewer's tasks, and return it as it was.

    Args:
        versions: the versions at which the client allows the deletion; ``None`` means any.

    Raises:
        NotFound: the viewer has no such task. This is decided before the version.
        VersionConflict: the task is at another version.
    """
    records = await write(
        db,
        task_sql.REMOVE,
        once,
        _TYPES,
        user_id=viewer.user_id,
        id=task_id,
        versions=as_text(versions),
    )
    return Task(*changed_row(records, "Task", task_id, versions))


async def remove_many(
    db: Database, viewer: Viewer, ids: Iterable[int], once: Once | None = None
) -> Deleted:
    """Delete those of the tasks that the viewer has. An id that is repeated counts once."""
    unique = list(dict.fromkeys(ids))
    possible = [task_id for task_id in unique if 1 <= task_id <= MAX_ID]
    records = await write(
        db,
        task_sql.REMOVE_MANY,
        once,
        _TYPES,
        user_id=viewer.user_id,
        ids=as_text(possible),
    )
    removed = {record[0] for record in records}
    return Deleted(
        deleted=[task_id for task_id in unique if task_id in removed],
        not_found=[task_id for task_id in unique if task_id not in removed],
    )
