"""The statements about tasks, compiled once at import. Each takes the owner's ``user_id``.

A deleted task stays in the table, marked (``deleted_at``): it is in the trash. ``_OWN`` are the
owner's tasks that live. What does not use it says so, and tests/test_statements.py names a
statement that forgets the mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    update,
)

from persistence.idempotency_sql import Work, keyed
from persistence.sql import (
    Statement,
    at_version,
    compile_statement,
    differ,
    done_or_locked,
    integer_list,
    locked_rows,
    new_values,
    parameter,
    typed_columns,
)
from persistence.tables import LIVES
from persistence.tables import tasks as table
from persistence.task_fields import EDITABLE, Task

*NAMES, _ = Task.__struct_fields__
"""The columns of a task that lives: all but ``deleted_at``, in ``Task``'s order."""

_COLUMNS: Final = typed_columns(table, NAMES)
_IS_OWNER: Final = table.c.user_id == parameter("user_id", table.c.user_id)
_OWN: Final = and_(_IS_OWNER, LIVES)
"""The owner's tasks that live."""

_OWN_TRASH: Final = and_(_IS_OWNER, ~LIVES)
"""The owner's deleted tasks."""

_BY_ID: Final = table.c.id == parameter("id", table.c.id)
_AMONG_IDS: Final = table.c.id == func.any(integer_list("ids", BigInteger()))


def _list(by_completed: bool, at_cursor: bool, backward: bool) -> Statement:
    order = (table.c.created_at, table.c.id)
    query = (
        select(*_COLUMNS)
        .where(_OWN)
        .order_by(*(order if backward else [column.desc() for column in order]))
        .limit(bindparam("limit", type_=Integer))
    )
    if by_completed:
        query = query.where(table.c.completed == parameter("completed", table.c.completed))
    if at_cursor:
        position = tuple_(parameter("created_at", table.c.created_at), parameter("id", table.c.id))
        row = tuple_(*order)
        query = query.where(row > position if backward else row < position)
    return compile_statement(query)


LIST: Final = {
    (by_completed, at_cursor, backward): _list(by_completed, at_cursor, backward)
    for by_completed in (False, True)
    for at_cursor in (False, True)
    for backward in (False, True)
}
"""At most ``limit`` tasks, newest first; ``backward``, the oldest first.

By whether there is a ``completed``, a position, and whether it is read backward.
"""

_completed = bindparam("completed", type_=Boolean)
COUNT: Final = compile_statement(
    select(func.count())
    .select_from(table)
    .where(_OWN, or_(_completed.is_(None), table.c.completed == _completed))
)

GET: Final = compile_statement(select(*_COLUMNS).where(_OWN, _BY_ID))


def _create(*conditions: ColumnElement[bool]) -> Work:
    names = ("user_id", *EDITABLE)
    values = select(*(parameter(name, table.c[name]) for name in names)).where(*conditions)
    return insert(table).from_select(names, values).returning(*_COLUMNS)


def _create_many(*conditions: ColumnElement[bool]) -> Work:
    # One JSON array, so that the number of tasks changes neither the SQL nor its parameters.
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(
        column("position", Integer), *(column(name, table.c[name].type) for name in EDITABLE)
    )
    rows = rows.render_derived("new", with_types=True)
    owner = parameter("user_id", table.c.user_id)
    # The ids rise in the order of the request.
    values = select(owner, *(rows.c[name] for name in EDITABLE)).where(*conditions)
    names = ("user_id", *EDITABLE)
    ordered = values.order_by(rows.c.position)
    return insert(table).from_select(names, ordered).returning(*_COLUMNS)


def _next_version(row: Any) -> dict[str, ColumnElement[Any]]:
    """The values that every change of a row sets."""
    return {
        "version": row.version + literal_column("1"),
        # The clock, not the transaction's start: a statement that waited for the lock comes after
        # the one it waited for.
        "updated_at": func.greatest(func.clock_timestamp(), row.updated_at),
    }


def _change(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_rows(_COLUMNS, _OWN, _BY_ID, *conditions)
    return _changed(locked, at_version(locked))


def _change_many(*conditions: ColumnElement[bool]) -> Work:
    # In the order of the ids; see ``_locked_ids``.
    return _changed(locked_rows(_COLUMNS, _OWN, _AMONG_IDS, *conditions, order=table.c.id))


def _changed(locked: CTE, *conditions: ColumnElement[bool]) -> Work:
    values = new_values(table, EDITABLE, locked)
    changed = (
        update(table)
        .values(**values, **_next_version(locked.c))
        .where(table.c.id == locked.c.id, *conditions, differ(values, locked))
        .returning(*_COLUMNS)
        .cte("changed")
    )
    return done_or_locked(changed, locked, NAMES)


# The statement's start, so that tasks which are deleted together were deleted at one time; but no
# earlier than a change that the statement waited for.
_DELETION_TIME: Final = func.greatest(func.now(), table.c.updated_at)


def _remove(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_rows(_COLUMNS, _OWN, _BY_ID, *conditions)
    removed = (
        update(table)
        .values(deleted_at=_DELETION_TIME)
        .where(table.c.id == locked.c.id, at_version(locked))
        .returning(*_COLUMNS)
        .cte("removed")
    )
    return done_or_locked(removed, locked, NAMES)


def _locked_ids(*conditions: ColumnElement[bool]) -> CTE:
    """The ids of the tasks that meet the conditions.

    Locked in the order of the ids, so that two statements about the same tasks cannot deadlock.
    """
    return (
        select(table.c.id).where(*conditions).order_by(table.c.id).with_for_update().cte("locked")
    )


def _remove_many(*conditions: ColumnElement[bool]) -> Work:
    locked = _locked_ids(_OWN, _AMONG_IDS, *conditions)
    return (
        update(table)
        .values(deleted_at=_DELETION_TIME)
        .where(table.c.id == locked.c.id)
        .returning(*typed_columns(table, ["id"]))
    )


def _trash(at_cursor: bool) -> Statement:
    order = (table.c.deleted_at, table.c.id)
    query = (
        select(*typed_columns(table, Task.__struct_fields__))
        .where(_OWN_TRASH)
        .order_by(*(column.desc() for column in order))
        .limit(bindparam("limit", type_=Integer))
    )
    if at_cursor:
        position = tuple_(parameter("deleted_at", table.c.deleted_at), parameter("id", table.c.id))
        query = query.where(tuple_(*order) < position)
    return compile_statement(query)


TRASH: Final = {at_cursor: _trash(at_cursor) for at_cursor in (False, True)}
"""At most ``limit`` deleted tasks, last deleted first; by whether there is a position."""

COUNT_TRASH: Final = compile_statement(select(func.count()).select_from(table).where(_OWN_TRASH))


def _restore(*conditions: ColumnElement[bool]) -> Work:
    return (
        update(table)
        .values(deleted_at=null(), **_next_version(table.c))
        .where(_OWN_TRASH, _BY_ID, *conditions)
        .returning(*_COLUMNS)
    )


def _empty_trash(*conditions: ColumnElement[bool]) -> Work:
    locked = _locked_ids(_OWN_TRASH, *conditions)
    emptied = delete(table).where(table.c.id == locked.c.id).returning(table.c.id).cte("emptied")
    return select(func.count().label("amount")).select_from(emptied)


def _reassign() -> Statement:
    # Tasks in the trash, too. In the order of the ids, like a deletion of
    # many, so that they cannot deadlock.
    locked = (
        select(table.c.id)
        .where(
            table.c.user_id == parameter("old", table.c.user_id),
            table.c.id > parameter("after", table.c.id),
        )
        .order_by(table.c.id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update()
        .cte("locked")
    )
    changed = (
        update(table)
        .values(
            user_id=parameter("new", table.c.user_id),
            **_next_version(table.c),
        )
        .where(table.c.id == locked.c.id)
        .returning(*typed_columns(table, ["id"]))
        .cte("changed")
    )
    return compile_statement(select(func.count(), func.max(changed.c.id)).select_from(changed))


REASSIGN: Final = _reassign()


def _write(work: Callable[..., Work]) -> dict[bool, Statement]:
    return {False: compile_statement(work()), True: keyed(work)}


# Each without and with an idempotency key.
CREATE: Final = _write(_create)
CREATE_MANY: Final = _write(_create_many)
CHANGE: Final = _write(_change)
CHANGE_MANY: Final = _write(_change_many)
REMOVE: Final = _write(_remove)
REMOVE_MANY: Final = _write(_remove_many)
RESTORE: Final = _write(_restore)
EMPTY_TRASH: Final = _write(_empty_trash)
