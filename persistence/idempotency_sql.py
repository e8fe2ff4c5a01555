"""A write and the record of its idempotency key as one statement. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from persistence.sql import Statement, compile_statement, parameter
from persistence.tables import idempotency_keys as table

SWEPT: Final = 4
"""The most expired keys that one keyed write deletes. It adds one, so the table never grows by
what is expired."""

_LOCK_SEED: Final = 7_021_999_022
"""Separates the advisory locks of keys from those of other applications."""


Work = Select[Any] | ReturningInsert[Any] | ReturningUpdate[Any]
"""A statement that writes and returns rows, not compiled yet."""


def keyed(work: Callable[[ColumnElement[bool]], Work]) -> Statement:
    """The statement that does some work once for each person's key, and records its outcome.

    PostgreSQL commits it as a whole: the work, and the row of ``idempotency_keys`` with the rows
    that the work returned. It needs one round trip and no state of the session, so it also runs
    through a pooler in transaction mode.

    The advisory lock tells a run that is still under way. ``pg_try_advisory_xact_lock`` does not
    wait, so that a second request gets its 409 at once. It does not order the snapshots of two
    runs: a run whose snapshot is older than the other's commit, and which tries the lock after it,
    finds no record. Then the primary key rejects its own record and undoes its work;
    ``persistence.idempotency`` looks again.

    Args:
        work: makes the work from a condition that each of its parts must meet. It takes the
            parameter ``user_id``.

    Returns:
        a statement with the parameters of the work, and ``key``, ``fingerprint`` and ``hours``.
        Its only row: the fingerprint of an earlier request, or null; the outcome, earlier or new,
        as a JSON array of rows, or null if the request with this key is still running.
    """
    user_id, key = (parameter(name, table.c[name]) for name in ("user_id", "key"))
    own = (table.c.user_id == user_id, table.c.key == key)
    is_expired = table.c.expires_at <= func.now()

    lock_id = func.hashtextextended(
        user_id + literal_column("chr(10)", Text) + key, literal_column(str(_LOCK_SEED), BigInteger)
    )
    lock = select(func.pg_try_advisory_xact_lock(lock_id).label("acquired")).cte("lock")
    earlier = select(table.c.fingerprint, table.c.outcome).where(*own, ~is_expired).cte("earlier")
    permit = (
        select((lock.c.acquired & ~exists(select(earlier.c.fingerprint))).label("granted"))
        .select_from(lock)
        .cte("permit")
    )
    # A scalar sub-query is evaluated before the part that it is a condition of.
    is_permitted = select(permit.c.granted).scalar_subquery()

    result = work(is_permitted).cte("result")
    expired = delete(table).where(*own, is_expired, is_permitted).returning(true()).cte("expired")
    outcome = select(func.coalesce(func.json_agg(result.table_valued()), literal_column("'[]'")))
    record = (
        insert(table)
        .from_select(
            ["user_id", "key", "fingerprint", "outcome", "expires_at"],
            select(
                user_id,
                key,
                parameter("fingerprint", table.c.fingerprint),
                outcome.scalar_subquery(),
                func.now() + bindparam("hours", type_=Double) * literal_column("interval '1 hour'"),
            ).where(is_permitted, _is_done(expired)),
        )
        .returning(table.c.outcome)
        .cte("record")
    )
    # Last, so that rows are locked for a moment only, and only rows that nobody else has locked.
    row = tuple_(table.c.user_id, table.c.key)
    sweepable = (
        select(table.c.user_id, table.c.key)
        .where(is_expired, _is_done(record))
        .order_by(table.c.expires_at)
        .limit(literal_column(str(SWEPT)))
        .with_for_update(skip_locked=True)
    )
    swept = delete(table).where(row.in_(sweepable)).cte("swept")
    query = (
        select(
            cast(earlier.c.fingerprint, Text).label("earlier"),
            cast(func.coalesce(earlier.c.outcome, record.c.outcome), Text).label("outcome"),
        )
        .select_from(lock.outerjoin(earlier, true()).outerjoin(record, true()))
        .add_cte(swept)
    )
    return compile_statement(query)


def _is_done(part: CTE) -> ColumnElement[bool]:
    """True, after this part has run. PostgreSQL orders the parts by their use only."""
    count = select(func.count()).select_from(part).scalar_subquery()
    return or_(count >= literal_column("0"))
