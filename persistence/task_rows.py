"""The rows of a list as tasks: their times are numbers until all of them are read at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, get_type_hints

import msgspec
from sqlalchemy import Double, Label, cast, func, literal_column

from persistence.sql import Record
from persistence.task_columns import NAMES, columns
from persistence.task_fields import Task

_COLUMNS: Final[dict[object, Any]] = {
    datetime: list[datetime],
    datetime | None: list[datetime | None],
}
_HINTS: Final = get_type_hints(Task)
_TIMES: Final = tuple(
    (place, _COLUMNS[_HINTS[name]]) for place, name in enumerate(NAMES) if _HINTS[name] in _COLUMNS
)
"""The places of a task's times, and what a column of each becomes."""


def row_columns() -> tuple[Label[Any], ...]:
    """The values of a task's fields, in the order of ``NAMES``, for ``tasks_of``.

    Times are seconds since 1970: exact to the microsecond until 2242, and nobody but the server's
    clock writes them. The driver takes 0.5 µs for a timestamp, two thirds of what a row costs; a
    number and its place in ``msgspec.convert`` cost a tenth of that.
    """
    values = list(columns(*NAMES))
    for place, _ in _TIMES:
        seconds = func.date_part(literal_column("'epoch'"), values[place].element)
        values[place] = cast(seconds, Double).label(NAMES[place])
    return tuple(values)


def tasks_of(records: Sequence[Record]) -> list[Task]:
    """The tasks of rows that begin with ``row_columns``.

    For a single row, ``Task(*record)`` of a statement with timestamps costs less.
    """
    if not records:
        return []
    values: list[Any] = list(zip(*records, strict=True))[: len(NAMES)]
    for place, times in _TIMES:
        values[place] = msgspec.convert(values[place], times, strict=False)
    return list(map(Task, *values))
