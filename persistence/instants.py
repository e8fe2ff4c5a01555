"""The one form in which an instant is written: in documents, cursors, statements and the log."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """An instant as RFC 3339 in UTC, with six fractional digits: ``2025-12-10T12:34:56.000000Z``.

    Args:
        moment: with a time zone.
    """
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{text}Z"
