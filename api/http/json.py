"""How values are written in JSON. Both protocols write them with the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from persistence.instants import rfc3339

encode_json = msgspec.json.Encoder().encode
"""Encodes any value as JSON. Timestamps have to go through ``instant`` first."""


def instant(value: datetime) -> datetime | str:
    """A UTC timestamp in a form that ``encode_json`` writes as the contract says.

    The contract's form is RFC 3339 in UTC with six fractional digits and ``Z``. msgspec writes
    this form, a hundred times faster than Python can, except that it omits a fraction of zero.
    Such timestamps, one in a million, are formatted here.
    """
    return value if value.microsecond else rfc3339(value)


def now_to_the_second() -> str:
    """The current time as errors and health checks contain it: ``2025-12-10T12:34:56Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
