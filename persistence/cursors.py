"""Cursors: a position in a list, as an opaque string. The same for every resource and protocol."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.instants import rfc3339

LAST: Final = 2**63 - 1
"""The key of rows that come after every time."""


class Position(NamedTuple):
    """A position in a list: directly after the row with this key and id.

    Attributes:
        key: what the list is ordered by, as an integer: microseconds since 1970 for times.
        id: the row's id, which orders rows with the same key.
        order: the number of the list's order; 0 is the newest first, the order by default.
    """

    key: int
    id: int
    order: int = 0


def time_key(moment: datetime) -> int:
    """The key of a row with a time."""
    return (moment - _EPOCH) // _MICROSECOND


def key_time(key: int) -> str:
    """The time of a key, as text for PostgreSQL.

    Raises:
        OverflowError: no row has this key.
    """
    if key == LAST:
        return "infinity"
    return rfc3339(_EPOCH + key * _MICROSECOND)


def encode_cursor(position: Position) -> str:
    """The position as an opaque string of 22 or 23 URL-safe characters."""
    # The release before has one order and does not write its number.
    number = bytes([position.order]) if position.order else b""
    packed = number + _PACKED.pack(position.key, position.id)
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(text: str) -> Position:
    """The position that ``encode_cursor`` made the text from.

    Raises:
        PydanticCustomError: ``encode_cursor`` cannot have made this text.
    """
    try:
        packed = urlsafe_b64decode(text.encode("ascii") + b"==")
        number, packed = packed[: -_PACKED.size], packed[-_PACKED.size :]
        key, row_id = _PACKED.unpack(packed)
        position = Position(key, row_id, int.from_bytes(number))
        is_canonical = encode_cursor(position) == text
    except (ValueError, struct.error):
        is_canonical = False
    if not is_canonical:
        raise invalid_cursor()
    return position


def invalid_cursor() -> PydanticCustomError:
    """The error about a text that is no cursor of a response."""
    return PydanticCustomError("cursor_invalid", "Input should be a cursor from a response")


def _require_cursor(text: str) -> str:
    decode_cursor(text)
    return text


_PACKED: Final = struct.Struct(">qq")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Cursor = Annotated[str, AfterValidator(_require_cursor)]
"""A cursor that a client sends; ``decode_cursor`` reads it without an error."""

# The number of an order, if it is not 0; a key, an id, and no bit beyond them.
CURSOR_SCHEMA: Final = WithJsonSchema(
    {
        "type": "string",
        "pattern": "^(A[A-Za-v][A-Za-z0-9_-]{19}[AQgw]|[A-Z][A-Za-z0-9_-]{21}[AEIMQUYcgkosw048])$",
    }
)

# The trash's order, a time from 1970 to 9000, an id, and no bit beyond them.
TRASH_CURSOR_SCHEMA: Final = WithJsonSchema(
    {"type": "string", "pattern": "^ZA[A-M][A-Za-z0-9_-]{19}[AEIMQUYcgkosw048]$"}
)
