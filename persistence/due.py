"""When a task is due: a day without a zone, or a moment. Both are text in one form.

The text goes to and from PostgreSQL as it is: the driver takes the last day that a ``date`` of
Python can have for infinity.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import PydanticCustomError

from persistence.instants import rfc3339

DAY_LENGTH: Final = len("2025-12-10")
"""The length of a day; the text of a moment is longer."""

MOMENT: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
"""A moment in UTC, as PostgreSQL's ``to_char`` describes it."""

_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_OFFSET: Final = r"([Zz]|[+-][0-9]{2}:[0-9]{2})"

MOMENT_SCHEMA: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
"""The JSON schema of a moment as clients send it."""

DUE_SCHEMA: Final[dict[str, Any]] = {"anyOf": [{"type": "string", "format": "date"}, MOMENT_SCHEMA]}
"""The JSON schema of what clients send to say when a task is due."""

_MOMENT: Final = re.compile(f"({_DAY}{_TIME}){_OFFSET}")


def canonical_due(text: str) -> str:
    """A day as it is, or a moment in UTC with six fractional digits and ``Z``.

    Further digits of a second are cut off.

    Args:
        text: ``YYYY-MM-DD``, or RFC 3339 with an offset.

    Raises:
        PydanticCustomError: it is neither, or not within the years 1 to 9999 in UTC.
    """
    if re.fullmatch(_DAY, text):
        if _read(f"{text}T00:00:00Z"):
            return text
    elif moment := _read_moment(text):
        return rfc3339(moment)
    raise PydanticCustomError(
        "due_invalid",
        "Input should be a day (2025-12-10), or a time with its offset (2025-12-10T12:30:00+01:00)",
    )


def canonical_moment(text: str) -> str:
    """A moment in UTC with six fractional digits and ``Z``.

    Args:
        text: RFC 3339 with an offset.

    Raises:
        PydanticCustomError: it is none, or not within the years 1 to 9999 in UTC.
    """
    if moment := _read_moment(text):
        return rfc3339(moment)
    raise PydanticCustomError(
        "moment_invalid", "Input should be a time with its offset (2025-12-10T12:30:00+01:00)"
    )


def _read_moment(text: str) -> datetime | None:
    if re.fullmatch(f"{_DAY}{_TIME}", text):
        raise PydanticCustomError(
            "offset_missing", "Input should have an offset from UTC: Z, or one like +02:00"
        )
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    local, _, fraction = match[1].upper().partition(".")
    return _read(f"{local}.{fraction:0<6.6}{match[3].upper()}")


def _read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
