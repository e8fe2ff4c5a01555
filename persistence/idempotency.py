"""Writes with an idempotency key: done once, however often they are sent. Knows no protocol."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from persistence.database import Database
from persistence.errors import ExpectedError, FieldError, InvalidInput, Unavailable
from persistence.reported_values import reported_value
from persistence.sql import Record, Statement
from persistence.tables import KEY_LENGTH

HEADER: Final = "Idempotency-Key"
"""The header of both protocols."""

ABANDONED_FOR: Final = 4.0
"""Seconds that a write whose connection was lost waits for its own first attempt to end."""

_PAUSE: Final = 0.05


class KeyMismatch(ExpectedError):
    """The viewer used this idempotency key for another request."""


class KeyInFlight(ExpectedError):
    """The request with this idempotency key is still running."""


@dataclass(slots=True, eq=False)
class IdempotentWrite:
    """One write of a client, which its idempotency key allows to be done once.

    Attributes:
        key: the key, without quotes.
        fingerprint: the same for each repeat of the request; another request has another one.
        hours: how long the outcome is kept.
        is_replayed: whether the outcome is an earlier one; set by ``write``.
    """

    key: str
    fingerprint: str
    hours: float
    is_replayed: bool = False


def parse_key(text: str, field: str) -> str:
    """An idempotency key: 1 to 255 printable ASCII characters, without a pair of quotes around it.

    Args:
        text: as the client wrote it.
        field: the name of its header or argument.

    Raises:
        InvalidInput: it is none.
    """
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _KEY.fullmatch(key):
        message = f"Should have 1 to {KEY_LENGTH} printable ASCII characters"
        raise InvalidInput([FieldError(field, message, "idempotency_key", reported_value(text))])
    return key


_KEY: Final = re.compile(rf"[ -~]{{1,{KEY_LENGTH}}}")


def fingerprint(*parts: Any) -> str:
    """A digest of what makes a request the same: 64 hexadecimal digits.

    Args:
        parts: values that JSON has, after validation; the order of an object's members is ignored.
    """
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


async def write(
    db: Database,
    statements: Mapping[bool, Statement],
    idempotency: IdempotentWrite | None,
    types: Mapping[str, Any],
    **values: Any,
) -> Sequence[Record]:
    """Run a write: with a key once, and without one each time.

    A write with a key is repeated if its connection is lost, until the deadline.

    Args:
        statements: the write without and with a key (``persistence.idempotency_sql.keyed``).
        types: of the columns that JSON has no type for, by name.
        values: the statement's.

    Raises:
        KeyMismatch: the key was used for another request.
        KeyInFlight: the request with this key is still running.
        Unavailable: the database did not answer within the deadline, or failed.
    """
    if idempotency is None:
        return await db.write(statements[False], **values)
    values |= {
        "key": idempotency.key,
        "fingerprint": idempotency.fingerprint,
        "hours": idempotency.hours,
    }
    losses, give_up_at = db.losses, time.monotonic() + ABANDONED_FOR
    while True:
        [(earlier, outcome)] = await _run(db, statements[True], values)
        if earlier is not None and earlier != idempotency.fingerprint:
            raise KeyMismatch
        if outcome is not None:
            idempotency.is_replayed = earlier is not None
            return [_StoredRecord(row, types) for row in msgspec.json.decode(outcome)]
        # PostgreSQL may not have noticed yet that the connection of our first attempt is gone.
        if db.losses == losses or time.monotonic() > give_up_at:
            raise KeyInFlight
        await db.pause(_PAUSE)


async def _run(db: Database, statement: Statement, values: Mapping[str, Any]) -> Sequence[Record]:
    for _ in range(_LOOKS):
        try:
            return await db.write(statement, is_repeatable=True, **values)
        except asyncpg.UniqueViolationError:
            # Another run was committed after this one took its snapshot: the next one sees it.
            continue
    raise Unavailable("database: a key is recorded, and cannot be read")


_LOOKS: Final = 3


class _StoredRecord:
    """A row that was stored as JSON, with the values that the driver would have returned."""

    __slots__ = ("_names", "_values")

    def __init__(self, members: dict[str, Any], types: Mapping[str, Any]) -> None:
        self._names = list(members)
        self._values = [
            _value(value, types[name]) if name in types else value
            for name, value in members.items()
        ]

    def __getitem__(self, key: str | int | slice[Any, Any, Any]) -> Any:
        return self._values[self._names.index(key) if isinstance(key, str) else key]

    def __iter__(self) -> Any:
        return iter(self._values)


def _value(value: Any, type_: Any) -> Any:
    converted = msgspec.convert(value, type_)
    # PostgreSQL writes an instant in the session's time zone.
    return converted.astimezone(UTC) if isinstance(converted, datetime) else converted
