"""The statements about tasks, compiled once at import. Each takes the owner's ``user_id``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
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
    locked_row,
    parameter,
)
from persistence.tables import tasks as table
from persistence.task_columns import (
    DERIVED,
    NAMES,
    OWN,
    WRITTEN,
    Value,
    columns,
    field_or_locked,
    field_parameter,
    new_columns,
    next_version,
)
from persistence.task_fields import EDITABLE

_COLUMNS: Final = columns(*NAMES)
_BY_ID: Final = table.c.id == parameter("id", table.c.id)


GET: Final = compile_statement(select(*_COLUMNS).where(*OWN, _BY_ID))


def _create(*conditions: ColumnElement[bool]) -> Work:
    values: dict[str, Value] = {name: field_parameter(name) for name in ("user_id", *WRITTEN)}
    # ``now`` as in ``created_at``.
    values["completed_at"] = case((values["completed"], func.now()))
    values["version"] = literal_column("1")
    written = new_columns(values)
    row = select(*written.values()).where(*conditions)
    return insert(table).from_select(list(written), row).returning(*_COLUMNS)


def _change(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_row(columns(*NAMES, *DERIVED), *OWN, _BY_ID, *conditions)
    values = {name: field_or_locked(name, locked) for name in WRITTEN}
    differs = differ({name: values[name] for name in EDITABLE}, locked)
    # The clock, not the transaction's start: a statement that waited for the lock comes after
    # the one it waited for.
    clock = select(func.greatest(func.clock_timestamp(), locked.c.updated_at).label("now")).cte(
        "clock"
    )
    since = case((locked.c.completed, locked.c.completed_at), else_=clock.c.now)
    values["completed_at"] = case((values["completed"], since))
    values["version"] = locked.c.version + literal_column("1")
    changed = (
        update(table)
        .values(
            **new_columns(values),
            updated_at=clock.c.now,
        )
        .where(table.c.id == locked.c.id, at_version(locked), differs)
        .returning(*_COLUMNS)
        .cte("changed")
    )
    return done_or_locked(changed, locked, NAMES)


def _remove(*conditions: ColumnElement[bool]) -> Work:
    locked = locked_row(_COLUMNS, *OWN, _BY_ID, *conditions)
    removed = (
        delete(table)
        .where(table.c.id == locked.c.id, at_version(locked))
        .returning(*_COLUMNS)
        .cte("removed")
    )
    return done_or_locked(removed, locked, NAMES)


def _remove_many(*conditions: ColumnElement[bool]) -> Work:
    # Locked in the order of the ids, so that two deletions of the same tasks cannot deadlock.
    locked = (
        select(table.c.id)
        .where(*OWN, table.c.id == func.any(integer_list("ids", BigInteger())), *conditions)
        .order_by(table.c.id)
        .with_for_update()
        .cte("locked")
    )
    return delete(table).where(table.c.id == locked.c.id).returning(*columns("id"))


def _reassign() -> Statement:
    # In the order of the ids, like a deletion of many, so that they cannot deadlock.
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
            updated_at=func.greatest(func.clock_timestamp(), table.c.updated_at),
        )
        .where(table.c.id == locked.c.id)
        .returning(*columns("id"))
        .cte("changed")
    )
    return compile_statement(select(func.count(), func.max(changed.c.id)).select_from(changed))


REASSIGN: Final = _reassign()


def _write(work: Callable[..., Work]) -> dict[bool, Statement]:
    return {False: compile_statement(work()), True: keyed(work)}


# Each without and with an idempotency key.
CREATE: Final = _write(_create)
CHANGE: Final = _write(_change)
REMOVE: Final = _write(_remove)
REMOVE_MANY: Final = _write(_remove_many)
