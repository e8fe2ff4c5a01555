"""How a task's fields are stored. A field without an entry here has a column of its own name.

Each field is one value in statements, as ``task_fields.Task`` has it; what is compared, changed
and returned is that value. Here it becomes columns, and columns become it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Label,
    SmallInteger,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
)
from sqlalchemy.types import TypeEngine

from persistence.due import DAY_LENGTH, MOMENT
from persistence.search import SEPARATOR, searchable
from persistence.sql import sql_type
from persistence.tables import LIVES, PRIORITIES
from persistence.tables import tasks as table
from persistence.task_fields import EDITABLE, Task, tag_keys

Value = ColumnElement[Any]


class Stored(NamedTuple):
    """How one field is stored.

    Attributes:
        type: of the field's value.
        read: the value, from the columns.
        write: the columns by their names, from the value.
    """

    type: TypeEngine[Any]
    read: Value
    write: Callable[[Value], dict[str, Value]]


def _read_due() -> Value:
    moment = func.timezone(literal_column("'UTC'"), table.c.due_at)
    day = func.to_char(cast(table.c.due_day, DateTime), literal_column("'YYYY-MM-DD'"))
    return func.coalesce(day, func.to_char(moment, literal_column(f"'{MOMENT}'")))


def _write_due(value: Value) -> dict[str, Value]:
    is_day = func.length(value) == literal_column(str(DAY_LENGTH))
    return {
        "due_day": case((is_day, cast(value, Date))),
        "due_at": case((~is_day, cast(value, DateTime(timezone=True)))),
    }


def _read_priority() -> Value:
    names = ((table.c.priority == number, name) for number, name in _NUMBERS)
    return case(*names)


def _write_priority(value: Value) -> dict[str, Value]:
    numbers = case(*((value == name, number) for number, name in _NUMBERS))
    return {"priority": cast(numbers, SmallInteger)}


_NUMBERS: Final[list[tuple[Value, Value]]] = [
    (literal_column(str(number)), literal_column(f"'{name}'", Text))
    for number, name in enumerate(PRIORITIES)
]


def _by_name(name: str) -> Stored:
    return Stored(sql_type(table.c[name]), table.c[name], lambda value: {name: value})


_SPECIAL: Final = {
    "due": Stored(Text(), _read_due(), _write_due),
    "priority": Stored(Text(), _read_priority(), _write_priority),
    # The release before completes tasks without a time: no later than the latest change.
    "completed_at": _by_name("completed_at")._replace(
        read=case((table.c.completed, func.coalesce(table.c.completed_at, table.c.updated_at)))
    ),
}


class Derived(NamedTuple):
    """What Python computes from a field whenever that is written, and what is stored as well.

    Attributes:
        field: the field's name.
        compute: the value, from the field's.
    """

    field: str
    compute: Callable[[Any], Any]


DERIVED: Final = {
    "tag_keys": Derived("tags", tag_keys),
    "title_text": Derived("title", searchable),
    "description_text": Derived("description", searchable),
}
"""The stored values that are no fields, by their names."""

IS_UNSEARCHABLE: Final = or_(
    table.c.search_text.is_(None), table.c.search_version != table.c.version
)
"""Whether a task's text for searches is not that of its version: the release before wrote it."""


def _part_of_text(number: int) -> Stored:
    """A part of ``search_text``, null where that is not the text of the version."""
    separator = literal_column(f"chr({ord(SEPARATOR)})", Text)
    part = func.split_part(table.c.search_text, separator, literal_column(str(number)))
    return Stored(Text(), case((~IS_UNSEARCHABLE, part)), lambda value: {})


def _write_text(values: Mapping[str, Value]) -> dict[str, Value]:
    """The text of both parts, if both are known, and the version that it is the text of."""
    separator = literal_column(f"chr({ord(SEPARATOR)})", Text)
    text = values["title_text"] + separator + values["description_text"]
    return {"search_text": text, "search_version": values["version"]}


NAMES: Final = Task.__struct_fields__
"""A task's fields, in the order of ``Task``'s arguments."""

STORED: Final = (
    {name: _by_name(name) for name in NAMES if name not in _SPECIAL}
    | _SPECIAL
    | {
        "deleted_at": _by_name("deleted_at"),
        "tag_keys": _by_name("tag_keys"),
        "title_text": _part_of_text(1),
        "description_text": _part_of_text(2),
    }
)
"""How each field, and each derived value, is stored."""

if lacking := set(table.c.keys()).symmetric_difference(
    [
        "seq",  # A trigger's.
        "search_text",
        "search_version",
        *(column for stored in STORED.values() for column in stored.write(table.c.id)),
    ]
):
    raise TypeError(f"persistence/tables.py or task_columns.py has no {', '.join(lacking)}")


def columns(*names: str) -> tuple[Label[Any], ...]:
    """The values of these fields, each with the type that it has at import.

    So a statement's result keeps its types, whatever the columns become (``Statement.typed``).
    """
    return tuple(cast(STORED[name].read, STORED[name].type).label(name) for name in names)


def field_parameter(name: str) -> BindParameter[Any]:
    """A parameter with the value of a field or of a derived column, called as that is."""
    return bindparam(name, type_=STORED[name].type)


def new_columns(values: Mapping[str, Value]) -> dict[str, Value]:
    """The columns to write, from the values of fields and of all derived ones."""
    written = _write_text(values)
    for name, value in values.items():
        written |= STORED[name].write(value)
    return written


def next_version() -> dict[str, Value]:
    """The columns of the next version of a task whose text does not change."""
    return {
        "version": table.c.version + literal_column("1"),
        "search_version": table.c.search_version + literal_column("1"),
        # The clock, not the transaction's start: a statement that waited for the lock comes after
        # the one it waited for.
        "updated_at": func.greatest(func.clock_timestamp(), table.c.updated_at),
        # What it is read as, because that may be the time of the change before.
        "completed_at": STORED["completed_at"].read,
    }


_IS_OWNER: Final = table.c.user_id == bindparam("user_id", type_=Text)

OWN: Final = (_IS_OWNER, LIVES)
"""The conditions of every statement about the viewer's tasks, those that live."""

OWN_TRASH: Final = (_IS_OWNER, ~LIVES)
"""The same about those in the trash."""


WRITTEN: Final = (*EDITABLE, *DERIVED)
"""What a write takes parameters for."""


def field_or_locked(name: str, locked: Any) -> Value:
    """The parameter of a field or derived column if its field is provided, else the value it had.

    Args:
        locked: the locked row, with a column of this name.
    """
    field = DERIVED[name].field if name in DERIVED else name
    provided = bindparam(f"{field}_provided", type_=Boolean)
    return case((provided, field_parameter(name)), else_=locked.c[name])


def arguments(provided: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the parameters of all fields that a client may write.

    Args:
        provided: the new values by name; a field that is not among them is null.
    """
    values = {name: provided.get(name) for name in EDITABLE}
    for name, (field, compute) in DERIVED.items():
        values[name] = compute(provided[field]) if field in provided else None
    return values


def change_arguments(provided: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the parameters that say which fields are provided."""
    return arguments(provided) | {f"{name}_provided": name in provided for name in EDITABLE}
