"""Removing what has no use any more: tasks long in the trash, and expired idempotency keys."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Table,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    tuple_,
)

from persistence.database import Database
from persistence.sql import Statement, compile_statement
from persistence.tables import LIVES, idempotency_keys, tasks

BATCH: Final = 500
"""The most rows of each table that one sweep removes: they are locked for some milliseconds."""

SWEEP_LOCK: Final = 7_021_999_023
"""The advisory lock of a sweep; arbitrary, the same in all releases."""


class Swept(NamedTuple):
    """What one sweep removed.

    Attributes:
        is_alone: whether no other sweep was running; otherwise nothing was removed.
        tasks: how many tasks.
        keys: how many idempotency keys.
    """

    is_alone: bool
    tasks: int
    keys: int

    @property
    def may_leave_more(self) -> bool:
        """Whether there may be more to remove, because a batch was full."""
        return BATCH in (self.tasks, self.keys)


async def sweep(db: Database, trash_days: float) -> Swept:
    """Remove a batch of the tasks that were deleted earlier, and a batch of expired keys.

    One statement, so that it is alone through a pooler in transaction mode, too. Rows that are
    locked by others are left for later. With nothing to remove it looks into two indexes.

    Args:
        trash_days: how long a task stays in the trash.

    Raises:
        Unavailable: the database did not answer within the deadline, or failed.
    """
    [record] = await db.write(_SWEEP, trash_days=trash_days, batch=BATCH)
    return Swept(*record)


def _sweep() -> Statement:
    lock_id = literal_column(str(SWEEP_LOCK), BigInteger)
    lock = select(func.pg_try_advisory_xact_lock(lock_id).label("acquired")).cte("lock")
    # A scalar sub-query is evaluated before the part that it is a condition of.
    is_alone = select(lock.c.acquired).scalar_subquery()
    days = bindparam("trash_days", type_=Double)
    deletion = func.now() - days * literal_column("interval '1 day'")
    old, keys = tasks.c.deleted_at, idempotency_keys.c.expires_at
    removed = [
        _removed(tasks, old, ~LIVES, old <= deletion, is_alone),
        _removed(idempotency_keys, keys, keys <= func.now(), is_alone),
    ]
    counts = [select(func.count()).select_from(each).scalar_subquery() for each in removed]
    return compile_statement(select(lock.c.acquired, *counts))


def _removed(table: Table, age: ColumnElement[Any], *conditions: ColumnElement[bool]) -> CTE:
    """The oldest rows that meet the conditions, at most ``batch``, deleted."""
    row = tuple_(*table.primary_key)
    expired = (
        select(*table.primary_key)
        .where(*conditions)
        .order_by(age)
        .limit(bindparam("batch", type_=Integer))
        .with_for_update(skip_locked=True)
    )
    removal = delete(table).where(row.in_(expired)).returning(*table.primary_key)
    return removal.cte(f"removed_{table.name}")


_SWEEP: Final = _sweep()
