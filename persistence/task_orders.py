"""The orders in which tasks can be listed, and a task's position in each. Knows no SQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from persistence.cursors import LAST, Position, key_time, time_key
from persistence.due import DAY_LENGTH
from persistence.tables import PRIORITIES
from persistence.task_fields import DeletedTask, Task


class TaskOrder(StrEnum):
    """How tasks are ordered. Where they are equal, their ids order them, in the same direction."""

    CREATED_DESC = "created_desc"
    CREATED_ASC = "created_asc"
    UPDATED_DESC = "updated_desc"
    DUE_ASC = "due_asc"
    PRIORITY_DESC = "priority_desc"


class _Keys(NamedTuple):
    """What an order compares.

    Attributes:
        name: of the key; ``task_lists`` has the expression.
        is_descending: whether the largest key comes first.
        key: a task's key, for cursors.
        value: the key's value for PostgreSQL. Raises OverflowError if no task has this key.
    """

    name: str
    is_descending: bool
    key: Callable[[Task], int]
    value: Callable[[int], str]


def _due_key(task: Task) -> int:
    """A day counts as its beginning in UTC, whatever zone a filter names."""
    if task.due is None:
        return LAST
    is_day = len(task.due) == DAY_LENGTH
    return time_key(datetime.fromisoformat(f"{task.due}T00:00:00Z" if is_day else task.due))


def _time(key: int) -> str:
    if key == LAST:
        raise OverflowError
    return key_time(key)


def _priority(key: int) -> str:
    if key not in range(len(PRIORITIES)):
        raise OverflowError
    return str(key)


_ORDERS: Final = {
    TaskOrder.CREATED_DESC: _Keys("created", True, lambda task: time_key(task.created_at), _time),
    TaskOrder.CREATED_ASC: _Keys("created", False, lambda task: time_key(task.created_at), _time),
    TaskOrder.UPDATED_DESC: _Keys("updated", True, lambda task: time_key(task.updated_at), _time),
    TaskOrder.DUE_ASC: _Keys("due", False, _due_key, key_time),
    TaskOrder.PRIORITY_DESC: _Keys(
        "priority", True, lambda task: PRIORITIES.index(task.priority), _priority
    ),
}
_NUMBERS: Final = {order: number for number, order in enumerate(TaskOrder)}
"""The numbers in cursors. They never change."""

_TRASH: Final = 100
"""The number of the trash: last deleted first."""


def key_name(order: TaskOrder) -> str:
    """The name of what an order compares: ``created``, ``updated``, ``due`` or ``priority``."""
    return _ORDERS[order].name


def is_descending(order: TaskOrder) -> bool:
    """Whether the largest key comes first."""
    return _ORDERS[order].is_descending


def position_of(task: Task, order: TaskOrder) -> Position:
    """A task's position in the list with this order."""
    return Position(_ORDERS[order].key(task), task.id, _NUMBERS[order])


def order_of(position: Position) -> TaskOrder:
    """The order that a position belongs to.

    Raises:
        OverflowError: it belongs to no list.
    """
    for order, number in _NUMBERS.items():
        if number == position.order:
            return order
    raise OverflowError


def position_values(position: Position, order: TaskOrder) -> dict[str, str | int]:
    """The parameters ``key`` and ``id`` of a statement that starts at a position.

    Raises:
        OverflowError: the position is not one of this order.
    """
    if position.order != _NUMBERS[order]:
        raise OverflowError
    return {"key": _ORDERS[order].value(position.key), "id": position.id}


def trash_position_of(task: Task) -> Position:
    """A deleted task's position in the trash."""
    assert isinstance(task, DeletedTask)
    return Position(time_key(task.deleted_at), task.id, _TRASH)


def trash_position_values(position: Position) -> dict[str, str | int]:
    """The parameters ``key`` and ``id`` of a page of the trash that starts at a position.

    Raises:
        OverflowError: the position is not one of the trash.
    """
    if position.order != _TRASH:
        raise OverflowError
    return {"key": _time(position.key), "id": position.id}
