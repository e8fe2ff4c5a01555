"""Rows as REST writes them: every timestamp in one form, by its type."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from rest.rows import RowEncoder

WHOLE = datetime(2025, 12, 10, 12, 34, 56, 0, UTC)
PART = datetime(2025, 12, 10, 12, 34, 56, 789012, UTC)
TEXT = {
    None: None,
    WHOLE: "2025-12-10T12:34:56.000000Z",
    PART: "2025-12-10T12:34:56.789012Z",
}


class Parcel(msgspec.Struct):
    """A row with timestamps of other names, one of which may be null."""

    id: int
    sent: datetime
    arrived: datetime | None


class Label(msgspec.Struct):
    """A row without timestamps."""

    id: int


@pytest.mark.parametrize("arrived", TEXT, ids=str)
@pytest.mark.parametrize("sent", [WHOLE, PART], ids=str)
def test_a_timestamp_of_any_name_has_six_digits(sent: datetime, arrived: datetime | None) -> None:
    parcels = RowEncoder(Parcel)
    expected = {"id": 1, "sent": TEXT[sent], "arrived": TEXT[arrived]}

    one = parcels.one(Parcel(1, sent, arrived))
    many = parcels.many([Parcel(1, sent, arrived), Parcel(2, PART, PART)])

    assert msgspec.json.decode(one) == expected
    assert msgspec.json.decode(many) == [
        expected, {"id": 2, "sent": TEXT[PART], "arrived": TEXT[PART]}
    ]  # fmt: skip


def test_a_row_without_timestamps_is_encoded_as_it_is() -> None:
    labels = RowEncoder(Label)

    assert labels.one(Label(1)) == b'{"id":1}'
    assert labels.many([]) == b"[]"
