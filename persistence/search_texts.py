"""Computes the text that searches compare for tasks that lack it: the release before wrote them."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    Text,
    bindparam,
    column,
    func,
    select,
    update,
)

from persistence.database import Database
from persistence.search import SEPARATOR, searchable
from persistence.sql import Statement, as_text, compile_statement, integer_list, parameter
from persistence.tables import tasks as table
from persistence.task_columns import IS_UNSEARCHABLE, columns


class Computed(NamedTuple):
    """Tasks whose text was computed.

    Attributes:
        amount: how many.
        last: the highest of their ids; ``None`` if there are none.
    """

    amount: int
    last: int | None


async def compute(db: Database, after: int, limit: int) -> Computed:
    """Compute the text of tasks that lack it. Nothing else of them changes.

    A task that is changed meanwhile keeps what that change stored.

    Args:
        after: an id; only tasks with higher ones.
        limit: how many at most, the lowest ids first.
    """
    records = await db.read(_LACKING, after=after, limit=limit)
    if not records:
        return Computed(0, None)
    ids, versions, titles, descriptions = zip(*records, strict=True)
    texts = [
        SEPARATOR.join(map(searchable, parts)) for parts in zip(titles, descriptions, strict=True)
    ]
    await db.write(_STORE, ids=as_text(ids), versions=as_text(versions), texts=texts)
    return Computed(len(ids), ids[-1])


_LACKING: Final = compile_statement(
    select(*columns("id", "version", "title", "description"))
    .where(table.c.id > parameter("after", table.c.id), IS_UNSEARCHABLE)
    .order_by(table.c.id)
    .limit(bindparam("limit", type_=Integer))
)


def _store() -> Statement:
    computed = func.unnest(
        integer_list("ids", BigInteger()),
        integer_list("versions", Integer()),
        bindparam("texts", type_=ARRAY(Text)),
    ).table_valued(column("id", BigInteger), column("version", Integer), column("text", Text))
    computed = computed.render_derived(name="computed")
    # Locked in the order of the ids, so that two writes of many tasks cannot deadlock.
    locked = (
        select(table.c.id, computed.c.version, computed.c.text)
        .join(computed, (computed.c.id == table.c.id) & (computed.c.version == table.c.version))
        .order_by(table.c.id)
        .with_for_update(of=table)
        .cte("locked")
    )
    return compile_statement(
        update(table)
        .values(search_text=locked.c.text, search_version=locked.c.version)
        .where(table.c.id == locked.c.id)
        .returning(*columns("id"))
    )


_STORE: Final = _store()
