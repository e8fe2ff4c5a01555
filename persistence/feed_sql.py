"""The statements about feeds, compiled once at import. Each takes the owner's ``user_id``."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Double,
    Integer,
    Select,
    Subquery,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)

from persistence.sql import Statement, compile_statement, parameter, sql_type
from persistence.sync_tokens import Head
from persistence.tables import LIVES, feeds, tasks
from persistence.task_columns import NAMES, columns

_OWNER: Final = parameter("user_id", feeds.c.user_id)


def _head() -> Subquery:
    """One row with the state of the owner's feed: the columns ``epoch``, ``seq``, ``floor``.

    Who has no row yet has nobody's: its id sorts before every other.
    """
    start = select(literal_column("1")).subquery("start")
    row = (
        select(feeds.c.epoch, feeds.c.seq, feeds.c.floor)
        .where(feeds.c.user_id.in_([_OWNER, literal_column("''")]))
        .order_by(feeds.c.user_id.desc())
        .limit(literal_column("1"))
        .lateral("row")
    )
    zero = literal_column("0", BigInteger)
    return (
        select(
            *(
                cast(func.coalesce(row.c[name], zero), BigInteger).label(name)
                for name in Head._fields
            )
        )
        .select_from(start.outerjoin(row, true()))
        .subquery("head")
    )


_HEAD: Final = _head()


def with_head(page: Select[Any]) -> Select[Any]:
    """The rows of a page of the owner's tasks, each with the head; if there are none, it alone.

    If the head is the parameter ``known``, PostgreSQL reads no task.
    """
    known = bindparam("known", type_=BigInteger)
    return _before_head(page.where(_HEAD.c.seq != known))


def _before_head(rows: Select[Any]) -> Select[Any]:
    each = rows.lateral("rows")
    return select(*each.c, *_HEAD.c).select_from(_HEAD.outerjoin(each, true()))


def _changes() -> Statement:
    """The tasks that changed after a position, each with the number of its change."""
    position = tuple_(parameter("seq", tasks.c.seq), parameter("id", tasks.c.id))
    # What was deleted before the client began to read it does not have.
    is_news = or_(LIVES, tasks.c.seq > parameter("start", tasks.c.seq))
    number = cast(tasks.c.seq, BigInteger).label("number")
    changed = (
        select(*columns(*NAMES, "deleted_at"), number)
        .where(tasks.c.user_id == _OWNER, tuple_(tasks.c.seq, tasks.c.id) > position, is_news)
        .order_by(tasks.c.seq, tasks.c.id)
        .limit(bindparam("limit", type_=Integer))
    )
    return compile_statement(_before_head(changed))


HEAD: Final = compile_statement(select(_HEAD))
"""One row: ``head``."""

HEADS: Final = compile_statement(
    select(
        *(
            cast(feeds.c[name], sql_type(feeds.c[name])).label(name)
            for name in ("user_id", *Head._fields)
        )
    ).where(feeds.c.user_id == func.any(bindparam("user_ids", type_=ARRAY(Text))))
)
"""The heads of those among the ``user_ids`` who have one."""

CHANGES: Final = _changes()

# In the order of the ids, like the triggers.
_in_order = select(feeds.c.user_id).order_by(feeds.c.user_id).with_for_update().cte("in_order")

_random = literal_column("1 + random() * 2147483646", Double)

RESET: Final = compile_statement(
    update(feeds)
    .values(epoch=func.mod(feeds.c.epoch + cast(_random, BigInteger), literal_column("2147483648")))
    .where(feeds.c.user_id == _in_order.c.user_id)
)
"""Another epoch for every feed: any but its own."""
