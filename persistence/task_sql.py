"""The statements about tasks, compiled once at import. Each takes the owner's ``user_id``.

A deleted task stays in the table, marked (``deleted_at``): it is in the trash. ``OWN`` are the
owner's tasks that live. What does not use it says so, and tests/test_statements.py names a
statement that forgets the mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Text,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    tuple_,
    update,
)

from persistence.feed_sql import with_head
from persistence.idempotency_sql import Work, keyed
from persistence.sql import (
    Statement,
    all_ids,
    at_version,
    compile_statement,
    differ,
    done_or_locked,
    integer_list,
    locked_rows,
    parameter,
)
from persistence.tables import tasks as table
from persistence.task_columns import (
    DERIVED,
    NAMES,
    OWN,
    OWN_TRASH,
    STORED,
    WRITTEN,
    Value,
    columns,
    field_or_locked,
    field_parameter,
    new_columns,
    next_version,
)
from persistence.task_fields import EDITABLE

# A trigger numbers each change under the lock of the owner's feed (``persistence.tables.feeds``).
# So a statement must lock all tasks that it may change before it changes the first (``all_ids``):
# whoever holds a feed waits for no task, and two writers cannot wait for each other.

_COLUMNS: Final = columns(*NAMES)
_BY_ID: Final = table.c.id == parameter("id", table.c.id)
_AMONG_IDS: Final = table.c.id == func.any(integer_list("ids", BigInteger()))


GET: Final = compile_statement(select(*_COLUMNS).where(*OWN, _BY_ID))


def _first_version(values: dict[str, Value]) -> dict[str, Value]:
    """The columns of a new task, from the values of its fields and of what derives from them."""
    # ``now`` as in ``created_at``.
    completed_at = case((values["completed"], func.now()))
    return new_columns(values | {"completed_at": completed_at, "version": literal_column("1")})


def _create(*conditions: ColumnElement[bool]) -> Work:
    written = _first_version({name: field_parameter(name) for name in ("user_id", *WRITTEN)})
    row = select(*written.values()).where(*conditions)
    return insert(table).from_select(list(written), row).returning(*_COLUMNS)


def _create_many(*conditions: ColumnElement[bool]) -> Work:
    # One JSON array, so that the number of tasks changes neither the SQL nor its parameters.
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(
        column("position", Integer), *(column(name, STORED[name].type) for name in WRITTEN)
    )
    rows = rows.render_derived("new", with_types=True)
    values: dict[str, Value] = {name: rows.c[name] for name in WRITTEN}
    written = _first_version({"user_id": field_parameter("user_id")} | values)
    # The ids rise in the order of the request.
    ordered = select(*written.values()).where(*conditions).order_by(rows.c.position)
    return insert(table).from_select(list(written), ordered).returning(*_COLUMNS)


def _change(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_rows(columns(*NAMES, *DERIVED), *OWN, _BY_ID, *conditions)
    return _changed(locked, at_version(locked))


def _change_many(*conditions: ColumnElement[bool]) -> Work:
    # In the order of the ids; see ``_locked_ids``.
    rows = columns(*NAMES, *DERIVED)
    locked = locked_rows(rows, *OWN, _AMONG_IDS, *conditions, order=table.c.id)
    return _changed(locked, table.c.id == func.any(all_ids(locked)))


def _changed(locked: CTE, *conditions: ColumnElement[bool]) -> Work:
    values = {name: field_or_locked(name, locked) for name in WRITTEN}
    differs = differ({name: values[name] for name in EDITABLE}, locked)
    # The clock, not the transaction's start: a statement that waited for the lock comes after
    # the one it waited for.
    now = func.greatest(func.clock_timestamp(), locked.c.updated_at)
    clock = select(locked.c.id, now.label("now")).cte("clock")
    since = case((locked.c.completed, locked.c.completed_at), else_=clock.c.now)
    values["completed_at"] = case((values["completed"], since))
    values["version"] = locked.c.version + literal_column("1")
    changed = (
        update(table)
        .values(**new_columns(values), updated_at=clock.c.now)
        .where(table.c.id == locked.c.id, clock.c.id == locked.c.id, *conditions, differs)
        .returning(*_COLUMNS)
        .cte("changed")
    )
    return done_or_locked(changed, locked, NAMES)


# The statement's start, so that tasks which are deleted together were deleted at one time; but no
# earlier than a change that the statement waited for.
_DELETION_TIME: Final = func.greatest(func.now(), table.c.updated_at)


def _remove(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_rows(_COLUMNS, *OWN, _BY_ID, *conditions)
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
    locked = _locked_ids(*OWN, _AMONG_IDS, *conditions)
    return (
        update(table)
        .values(deleted_at=_DELETION_TIME)
        .where(table.c.id == func.any(all_ids(locked)))
        .returning(*columns("id"))
    )


def _trash(at_cursor: bool) -> Statement:
    order = (table.c.deleted_at, table.c.id)
    query = (
        select(*_COLUMNS, *columns("deleted_at"))
        .where(*OWN_TRASH)
        .order_by(*(each.desc() for each in order))
        .limit(bindparam("limit", type_=Integer))
    )
    if at_cursor:
        key = cast(bindparam("key", type_=Text), DateTime(timezone=True))
        query = query.where(tuple_(*order) < tuple_(key, parameter("id", table.c.id)))
    return compile_statement(with_head(query))


TRASH: Final = {at_cursor: _trash(at_cursor) for at_cursor in (False, True)}
"""At most ``limit`` deleted tasks, last deleted first, each with the head of the feed.

By whether there is a position.
"""

COUNT_TRASH: Final = compile_statement(select(func.count()).select_from(table).where(*OWN_TRASH))


def _restore(*conditions: ColumnElement[bool]) -> Work:
    return (
        update(table)
        .values(deleted_at=null(), **next_version())
        .where(*OWN_TRASH, _BY_ID, *conditions)
        .returning(*_COLUMNS)
    )


def _empty_trash(*conditions: ColumnElement[bool]) -> Work:
    locked = _locked_ids(*OWN_TRASH, *conditions)
    emptied = delete(table).where(table.c.id == locked.c.id).returning(table.c.id).cte("emptied")
    return select(func.count().label("amount")).select_from(emptied)


def _reassign() -> Statement:
    # Tasks in the trash, too. In the order of the ids, like a deletion of many, so that they
    # cannot deadlock.
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
            **next_version(),
        )
        .where(table.c.id == func.any(all_ids(locked)))
        .returning(*columns("id"))
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
