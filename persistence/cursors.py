"""Cursors: a position in a list, as an opaque string. The same for every noun and protocol."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


class Position(NamedTuple):
    """A position in a list that is ordered by creation: directly after this row."""

    created_at: datetime
    id: int


def encode_cursor(position: Position) -> str:
    """The position as an opaque string of 22 URL-safe characters."""
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(_PACKED.pack(micros, position.id)).rstrip(b"=").decode()


def decode_cursor(text: str) -> Position:
    """The position that ``encode_cursor`` made the text from.

    Raises:
        PydanticCustomError: ``encode_cursor`` cannot have made this text.
    """
    try:
        packed = urlsafe_b64decode(text.encode("ascii") + b"==")
        micros, row_id = _PACKED.unpack(packed)
        position = Position(_EPOCH + micros * _MICROSECOND, row_id)
        is_canonical = encode_cursor(position) == text
    except (ValueError, OverflowError, struct.error):
        is_canonical = False
    if not is_canonical:
        raise PydanticCustomError("cursor_invalid", "Input should be a cursor from an answer")
    return position


def _require_cursor(text: str) -> str:
    decode_cursor(text)
    return text


_PACKED: Final = struct.Struct(">qq")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Cursor = Annotated[str, AfterValidator(_require_cursor)]
"""A cursor that a client sends; ``decode_cursor`` reads it without an error."""

# A time from 1970 to 8815, an id, and no bit beyond them.
CURSOR_SCHEMA: Final = WithJsonSchema(
    {"type": "string", "pattern": "^A[A-Za-v][A-Za-z0-9_-]{19}[AQgw]$"}
)
