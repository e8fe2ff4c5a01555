"""The statements that list and count tasks. Each shape is compiled once, when it is first used.

What differs between the shapes is what an index or the planner must know; every other condition
stands in all of them, and holds where its parameter is null.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    Boolean,
    Cast,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    ScalarSelect,
    SmallInteger,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.types import TypeEngine

from persistence.feed_sql import with_head
from persistence.search import patterns
from persistence.sql import Statement, as_text, compile_statement, integer_list, parameter
from persistence.tables import DUE_KEY, PRIORITIES
from persistence.tables import tasks as table
from persistence.task_columns import IS_UNSEARCHABLE, OWN
from persistence.task_fields import tag_keys
from persistence.task_inputs import CONDITIONS, TaskFilter
from persistence.task_orders import TaskOrder, is_descending, key_name
from persistence.task_rows import row_columns
from persistence.zones import due_bound

_MOMENT: Final = DateTime(timezone=True)


class Kind(IntEnum):
    """Which conditions a statement has, besides the owner."""

    ALL = 0
    COMPLETED = 1
    FILTERED = 2
    SEARCHED = 3


class Shape(NamedTuple):
    """What differs between two statements that list tasks.

    Attributes:
        kind: the conditions.
        key: what the list is ordered by.
        descending: whether the largest key comes first; a page that is read backward turns it.
        at_position: whether it starts at a position.
    """

    kind: Kind
    key: str
    descending: bool
    at_position: bool


KEYS: Final[dict[str, tuple[ColumnElement[Any], TypeEngine[Any]]]] = {
    "created": (table.c.created_at, _MOMENT),
    "updated": (table.c.updated_at, _MOMENT),
    "due": (DUE_KEY, _MOMENT),
    "priority": (table.c.priority, SmallInteger()),
}
"""What a list can be ordered by. None is ever null: a comparison with null would lose rows."""

SHAPES: Final = tuple(
    Shape(*parts) for parts in itertools.product(Kind, KEYS, (False, True), (False, True))
)
"""All shapes of a list."""


def shape_of(query: TaskFilter, order: TaskOrder, at_position: bool, backward: bool) -> Shape:
    """The shape of the statement for a page."""
    descending = is_descending(order) is not backward
    return Shape(kind_of(query), key_name(order), descending, at_position)


def kind_of(query: TaskFilter) -> Kind:
    """The least conditions that a filter needs."""
    if query.q is not None:
        return Kind.SEARCHED
    conditions = query.members().keys() & CONDITIONS
    if conditions - {"completed"}:
        return Kind.FILTERED
    return Kind.COMPLETED if conditions else Kind.ALL


def arguments(query: TaskFilter) -> dict[str, Any]:
    """The parameters of the conditions of a filter: those of its kind, and no others."""
    kind = kind_of(query)
    values: dict[str, Any] = {}
    if kind is not Kind.ALL:
        values["completed"] = query.completed
    if kind >= Kind.FILTERED:
        values |= _filter_arguments(query)
    if kind is Kind.SEARCHED:
        values["patterns"] = patterns(query.q or "")
    return values


def _filter_arguments(query: TaskFilter) -> dict[str, Any]:
    numbers = [PRIORITIES.index(each) for each in query.priority or ()]
    values: dict[str, Any] = {
        "priorities": as_text(numbers) or None,
        "tags": query.tags and tag_keys(query.tags),
        "has_due": query.has_due,
    }
    for name in ("due_from", "due_before"):
        due = getattr(query, name)
        moment, day = due_bound(due, query.zone or "UTC") if due else (None, None)
        values |= {f"{name}_moment": moment, f"{name}_day": day}
    for name in _TIMES:
        values[name] = getattr(query, name)
    return values


@cache
def list_statement(shape: Shape) -> Statement:
    """At most ``limit`` tasks in an order, each with the head of the feed (``with_head``).

    With ``Kind.SEARCHED`` a boolean follows the task: whether its text has to be compared in
    Python, because the release before wrote it.
    """
    column, kind = KEYS[shape.key]
    order = (column, table.c.id)
    query = (
        select(*row_columns())
        .where(*OWN, *_conditions(shape.kind))
        .order_by(*([each.desc() for each in order] if shape.descending else order))
        .limit(bindparam("limit", type_=Integer))
    )
    if shape.kind is Kind.SEARCHED:
        query = query.add_columns(IS_UNSEARCHABLE.label("is_unsearchable"))
    if shape.at_position:
        position = tuple_(_text("key", kind), parameter("id", table.c.id))
        row = tuple_(*order)
        query = query.where(row < position if shape.descending else row > position)
    return compile_statement(with_head(query))


@cache
def count_statement(kind: Kind) -> Statement:
    """How many tasks pass a filter; with ``Kind.SEARCHED`` also how many are to be compared."""
    counts: list[ColumnElement[int]] = [func.count()]
    if kind is Kind.SEARCHED:
        counts.append(func.count().filter(IS_UNSEARCHABLE))
    return compile_statement(select(*counts).select_from(table).where(*OWN, *_conditions(kind)))


def _conditions(kind: Kind) -> Iterable[ColumnElement[bool]]:
    completed = parameter("completed", table.c.completed)
    if kind is Kind.COMPLETED:
        yield table.c.completed == completed
    if kind < Kind.FILTERED:
        return
    yield or_(completed.is_(None), table.c.completed == completed)
    priorities = integer_list("priorities", SmallInteger())
    yield or_(priorities.is_(None), table.c.priority == func.any(priorities))
    tags = bindparam("tags", type_=ARRAY(Text))
    yield or_(tags.is_(None), table.c.tag_keys.bool_op("@>")(tags))
    has_due = bindparam("has_due", type_=Boolean)
    is_due = func.num_nonnulls(table.c.due_day, table.c.due_at) > literal_column("0")
    yield or_(has_due.is_(None), is_due == has_due)
    moment, day = _bound("due_from_moment", _MOMENT), _bound("due_from_day", Date())
    yield or_(moment.is_(None), table.c.due_at >= moment, table.c.due_day >= day)
    moment, day = _bound("due_before_moment", _MOMENT), _bound("due_before_day", Date())
    yield or_(moment.is_(None), table.c.due_at < moment, table.c.due_day < day)
    for name, column in _TIMES.items():
        moment = _bound(name, _MOMENT)
        within = column < moment if name.endswith("_before") else column >= moment
        yield or_(moment.is_(None), within)
    if kind is Kind.SEARCHED:
        words = func.all(bindparam("patterns", type_=ARRAY(Text)))
        yield or_(IS_UNSEARCHABLE, table.c.search_text.like(words))


_TIMES: Final = {
    "created_from": table.c.created_at,
    "created_before": table.c.created_at,
    "updated_from": table.c.updated_at,
    "updated_before": table.c.updated_at,
}


def _bound(name: str, kind: TypeEngine[Any]) -> ScalarSelect[Any]:
    """The same for a condition that no index serves: read once, not for each row."""
    return select(_text(name, kind)).scalar_subquery()


def _text(name: str, kind: TypeEngine[Any]) -> Cast[Any]:
    """A parameter that is text; ``persistence.due`` says why."""
    return cast(bindparam(name, type_=Text), kind)
