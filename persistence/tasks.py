"""What a viewer can do with tasks. Knows SQL; knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    Cast,
    Column,
    Integer,
    Label,
    Select,
    String,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)

from persistence.database import Database, Record, Statement, statement
from persistence.errors import NotFound, VersionConflict
from persistence.sessions.layouts import Viewer
from persistence.tables import tasks as table
from persistence.task_inputs import MAX_ID, NewTask, Page, Position, TaskChanges, TaskFilter, TaskId


class Task(msgspec.Struct, frozen=True):
    """One task, as it is stored. Timestamps are in UTC; ``version`` starts at 1."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def position(self) -> Position:
        """Where the task stands in the list's order."""
        return Position(self.created_at, self.id)


class TaskPage(NamedTuple):
    """A part of the list, and whether there is more after it."""

    tasks: list[Task]
    has_more: bool


class Deleted(NamedTuple):
    """What a bulk deletion did, each in the order asked."""

    deleted: list[int]
    not_found: list[int]


async def list_page(db: Database, viewer: Viewer, page: Page) -> TaskPage:
    """Your tasks, newest first: at most ``page.limit`` of the filter's, after ``page.cursor``."""
    values = page.position._asdict() if page.position else {}
    if page.completed is not None:
        values["completed"] = page.completed
    # One more than asked for tells whether there is more.
    records = await db.read(
        _LIST[page.completed is not None, page.cursor is not None],
        user_id=viewer.user_id,
        limit=page.limit + 1,
        **values,
    )
    found = [Task(*record) for record in records]
    return TaskPage(found[: page.limit], len(found) > page.limit)


async def count(db: Database, viewer: Viewer, wanted: TaskFilter) -> int:
    """How many tasks of yours pass the filter."""
    [record] = await db.read(_COUNT, user_id=viewer.user_id, completed=wanted.completed)
    total: int = record[0]
    return total


async def get(db: Database, viewer: Viewer, task_id: TaskId) -> Task:
    """One task of yours.

    Raises:
        NotFound: you have no such task.
    """
    return _one(await db.read(_GET, user_id=viewer.user_id, id=task_id), task_id)


async def create(db: Database, viewer: Viewer, new: NewTask) -> Task:
    """Add a task to your list."""
    [record] = await db.write(
        _CREATE,
        user_id=viewer.user_id,
        title=new.title,
        description=new.description,
        completed=new.completed,
    )
    return Task(*record)


async def change(
    db: Database,
    viewer: Viewer,
    task_id: TaskId,
    changes: TaskChanges,
    versions: Sequence[int] | None = None,
) -> Task:
    """Change a task of yours. What already is as wished changes nothing, the version included.

    Args:
        versions: the versions at which the client would have it changed; ``None`` means any.

    Raises:
        NotFound: you have no such task; this is decided before the version.
        VersionConflict: it is at another version.
    """
    given = changes.given()
    records = await db.write(
        _CHANGE,
        user_id=viewer.user_id,
        id=task_id,
        versions=_as_text(versions),
        title=given.get("title"),
        describe="description" in given,
        description=given.get("description"),
        completed=given.get("completed"),
    )
    return _as_versions_demand(records, task_id, versions)


async def remove(
    db: Database, viewer: Viewer, task_id: TaskId, versions: Sequence[int] | None = None
) -> Task:
    """Delete a task of yours, and return it as it was.

    Args:
        versions: the versions at which the client would have it deleted; ``None`` means any.

    Raises:
        NotFound: you have no such task; this is decided before the version.
        VersionConflict: it is at another version.
    """
    records = await db.write(
        _REMOVE, user_id=viewer.user_id, id=task_id, versions=_as_text(versions)
    )
    return _as_versions_demand(records, task_id, versions)


async def remove_many(db: Database, viewer: Viewer, ids: Iterable[int]) -> Deleted:
    """Delete those of the tasks that you have, in one statement; an id given twice counts once."""
    asked = list(dict.fromkeys(ids))
    possible = [task_id for task_id in asked if 1 <= task_id <= MAX_ID]
    records = await db.write(_REMOVE_MANY, user_id=viewer.user_id, ids=_as_text(possible))
    gone = {record[0] for record in records}
    return Deleted(
        deleted=[task_id for task_id in asked if task_id in gone],
        not_found=[task_id for task_id in asked if task_id not in gone],
    )


def _as_text(numbers: Sequence[int] | None) -> list[str] | None:
    return None if numbers is None else [str(number) for number in numbers]


def _one(records: Sequence[Record], task_id: int) -> Task:
    if not records:
        raise NotFound("Task", task_id)
    return Task(*records[0])


def _as_versions_demand(
    records: Sequence[Record], task_id: int, versions: Sequence[int] | None
) -> Task:
    """The row that ``_found`` and its statement left: the task, and whether anything was done."""
    if not records:
        raise NotFound("Task", task_id)
    done, *columns = records[0]
    task = Task(*columns)
    if not done and versions is not None and task.version not in versions:
        raise VersionConflict("Task", task.version)
    return task


def _typed(column: Column[Any]) -> Label[Any]:
    # What is read is what it was compiled for, whatever the column becomes (Statement.typed).
    # Text without its length: a cast to that would cut.
    kind = Text() if isinstance(column.type, String) else column.type
    return cast(column, kind).label(column.name)


_COLUMNS: Final = tuple(_typed(table.c[name]) for name in Task.__struct_fields__)
_MINE: Final = table.c.user_id == bindparam("user_id", type_=Text)


def _list(by_completed: bool, after_cursor: bool) -> Statement:
    wanted = (
        select(*_COLUMNS)
        .where(_MINE)
        .order_by(table.c.created_at.desc(), table.c.id.desc())
        .limit(bindparam("limit", type_=Integer))
    )
    if by_completed:
        wanted = wanted.where(table.c.completed == bindparam("completed", type_=Boolean))
    if after_cursor:
        place = tuple_(
            bindparam("created_at", type_=table.c.created_at.type),
            bindparam("id", type_=BigInteger),
        )
        wanted = wanted.where(tuple_(table.c.created_at, table.c.id) < place)
    return statement(wanted)


def _numbers(name: str, kind: Integer) -> Cast[Any]:
    """A parameter that is a list of numbers, given ``_as_text``.

    Of lists asyncpg knows those of text from the start. About any other it asks the server first,
    on each new connection: four round trips, or six where the server compiles (``jit``).
    """
    return cast(bindparam(name, type_=ARRAY(Text)), ARRAY(kind))


def _locked() -> CTE:
    """The task asked for, in its latest version, held until the statement ends.

    The lock makes the rest of the statement see what this part saw: a version that is compared
    is the version that is changed, whoever else is writing (READ COMMITTED re-reads the row).
    """
    return (
        select(*_COLUMNS)
        .where(_MINE, table.c.id == bindparam("id", type_=BigInteger))
        .with_for_update()
        .cte("found")
    )


def _as_done_or_found(done: CTE, found: CTE) -> Select[tuple[object, ...]]:
    """What the statement did, or else what it found; no row at all when there is no task."""
    columns = Task.__struct_fields__
    return select(
        union_all(
            select(true().label("done"), *(done.c[name] for name in columns)),
            select(false(), *(found.c[name] for name in columns)).where(
                ~exists(select(literal_column("1")).select_from(done))
            ),
        ).subquery()
    )


def _change() -> Statement:
    found = _locked()
    versions = _numbers("versions", Integer())
    title = func.coalesce(bindparam("title", type_=Text), found.c.title)
    completed = func.coalesce(bindparam("completed", type_=Boolean), found.c.completed)
    description = case(
        (bindparam("describe", type_=Boolean), bindparam("description", type_=Text)),
        else_=found.c.description,
    )
    changed = (
        update(table)
        .values(
            title=title,
            description=description,
            completed=completed,
            version=found.c.version + literal_column("1"),
            # The clock, not the transaction's start: a statement that waited for the lock
            # comes after the one it waited for.
            updated_at=func.greatest(func.clock_timestamp(), found.c.updated_at),
        )
        .where(
            table.c.id == found.c.id,
            or_(versions.is_(None), found.c.version == func.any(versions)),
            or_(
                title.is_distinct_from(found.c.title),
                description.is_distinct_from(found.c.description),
                completed.is_distinct_from(found.c.completed),
            ),
        )
        .returning(*_COLUMNS)
        .cte("changed")
    )
    return statement(_as_done_or_found(changed, found))


def _remove() -> Statement:
    found = _locked()
    versions = _numbers("versions", Integer())
    removed = (
        delete(table)
        .where(
            table.c.id == found.c.id,
            or_(versions.is_(None), found.c.version == func.any(versions)),
        )
        .returning(*_COLUMNS)
        .cte("removed")
    )
    return statement(_as_done_or_found(removed, found))


def _remove_many() -> Statement:
    # Locked in the order of the ids, so that two deletions of the same tasks can't deadlock.
    ids = _numbers("ids", BigInteger())
    found = (
        select(table.c.id)
        .where(_MINE, table.c.id == func.any(ids))
        .order_by(table.c.id)
        .with_for_update()
        .cte("found")
    )
    return statement(delete(table).where(table.c.id == found.c.id).returning(_typed(table.c.id)))


_LIST: Final = {
    (by_completed, after_cursor): _list(by_completed, after_cursor)
    for by_completed in (False, True)
    for after_cursor in (False, True)
}

_completed = bindparam("completed", type_=Boolean)
_COUNT: Final = statement(
    select(func.count())
    .select_from(table)
    .where(_MINE, or_(_completed.is_(None), table.c.completed == _completed))
)

_GET: Final = statement(
    select(*_COLUMNS).where(_MINE, table.c.id == bindparam("id", type_=BigInteger))
)

_CREATE: Final = statement(
    insert(table)
    .values(
        user_id=bindparam("user_id", type_=Text),
        title=bindparam("title", type_=Text),
        description=bindparam("description", type_=Text),
        completed=bindparam("completed", type_=Boolean),
    )
    .returning(*_COLUMNS)
)

_CHANGE: Final = _change()
_REMOVE: Final = _remove()
_REMOVE_MANY: Final = _remove_many()
