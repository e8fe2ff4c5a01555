"""Cursors: a position in a list, as an opaque string. The same for every noun and protocol."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


class Position(NamedTuple):
    """A position in a list that is ordered by creation: directly after this row.

    In the trash ``created_at`` is the time of deletion.
    """

    created_at: datetime
    id: int


TRASH: Final = "d"
"""The order of the trash, by deletion: its cursors begin with this letter."""


def encode_cursor(position: Position, order: str = "") -> str:
    """The position as an opaque string of 22 URL-safe characters, after its order.

    Args:
        order: no text for the order of creation.
    """
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    return order + urlsafe_b64encode(_PACKED.pack(micros, position.id)).rstrip(b"=").decode()


def decode_cursor(text: str, order: str = "") -> Position:
    """The position that ``encode_cursor`` made the text from.

    Raises:
        PydanticCustomError: ``encode_cursor`` cannot have made this text, in this order.
    """
    try:
        packed = urlsafe_b64decode(text.removeprefix(order).encode("ascii") + b"==")
        micros, row_id = _PACKED.unpack(packed)
        position = Position(_EPOCH + micros * _MICROSECOND, row_id)
        is_canonical = encode_cursor(position, order) == text
    except (ValueError, OverflowError, struct.error):
        is_canonical = False
    if not is_canonical:
        raise PydanticCustomError("cursor_invalid", "Input should be a cursor from an answer")
    return position


def _require_cursor(text: str) -> str:
    decode_cursor(text)
    return text


def _require_trash_cursor(text: str) -> str:
    decode_cursor(text, TRASH)
    return text


_PACKED: Final = struct.Struct(">qq")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Cursor = Annotated[str, AfterValidator(_require_cursor)]
"""A cursor that a client sends; ``decode_cursor`` reads it without an error."""

TrashCursor = Annotated[str, AfterValidator(_require_trash_cursor)]
"""The same of the trash."""

# A time from 1970 to 8815, an id, and no bit beyond them.
_PATTERN: Final = "A[A-Za-v][A-Za-z0-9_-]{19}[AQgw]$"

CURSOR_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": f"^{_PATTERN}"})
TRASH_CURSOR_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": f"^{TRASH}{_PATTERN}"})
