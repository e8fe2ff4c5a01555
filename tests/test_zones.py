"""Where a day begins in each time zone: a task due on a day is never a day early or late."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from persistence.instants import rfc3339
from persistence.zones import due_bound, first_day_from, start_of_day, zone_names

ZONES: Final = sorted(zone_names())
DAYS: Final = st.dates(date(1, 1, 3), date(9999, 12, 29))
MODERN: Final = st.dates(date(1900, 1, 1), date(2040, 1, 1))
ONE: Final = timedelta(days=1)
MICROSECOND: Final = timedelta(microseconds=1)


def local_day(moment: datetime, zone: str) -> date:
    return moment.astimezone(ZoneInfo(zone)).date()


def begin(day: date, zone: str) -> datetime:
    moment = start_of_day(day, ZoneInfo(zone))
    assert moment is not None
    return moment


def changes(zone: str, year: int) -> list[date]:
    """The days around which the offset of a zone changes in a year."""
    hours = (datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24))
    offsets = [(hour, hour.astimezone(ZoneInfo(zone)).utcoffset()) for hour in hours]
    return [
        local_day(hour, zone)
        for (hour, offset), (_, following) in pairwise(offsets)
        if offset != following
    ]


def require_right(day: date, zone: str) -> None:
    """Require that a day begins with its first moment, and ends where the next one begins."""
    first, end = begin(day, zone), begin(day + ONE, zone)
    assert first <= end <= first + timedelta(hours=49)
    if first == end:  # A day that the zone skips.
        assert local_day(first, zone) > day
        return
    assert local_day(first, zone) == day
    assert local_day(first - MICROSECOND, zone) < day
    assert local_day(end, zone) == day + ONE or begin(day + 2 * ONE, zone) == end
    assert local_day(end - MICROSECOND, zone) <= day


@settings(max_examples=1500, deadline=None)
@given(zone=st.sampled_from(ZONES), day=DAYS | MODERN)
@example("Pacific/Apia", date(2011, 12, 30))  # skipped
@example("Pacific/Kwajalein", date(1993, 8, 21))  # skipped
@example("America/Sao_Paulo", date(2018, 11, 4))  # no midnight
@example("America/Toronto", date(1919, 3, 31))  # clocks go from 23:30 to 00:30
@example("America/St_Johns", date(2006, 10, 29))  # clocks go back at 00:01
@example("Atlantic/Azores", date(2025, 10, 26))
@example("Pacific/Kiritimati", date(2025, 1, 1))  # +14
@example("Etc/GMT+12", date(2025, 1, 1))
@example("Africa/Monrovia", date(1972, 1, 7))
def test_a_day_begins_with_its_first_moment(zone: str, day: date) -> None:
    require_right(day, zone)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Asia/Beirut", "Asia/Gaza"])
def test_every_day_around_a_change_of_the_clocks_begins_with_its_first_moment(zone: str) -> None:
    for year in (1999, 2011, 2022):
        for day in changes(zone, year):
            for offset in range(-2, 3):
                require_right(day + offset * ONE, zone)


@settings(max_examples=1500, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)),
)
def test_the_first_day_from_a_moment_is_the_first_that_begins_then_or_later(
    zone: str, moment: datetime
) -> None:
    day = first_day_from(moment, ZoneInfo(zone))

    assert day is not None
    assert begin(day, zone) >= moment
    # Days that a zone skips begin with the next one.
    assert begin(day - ONE, zone) < moment or begin(day - ONE, zone) == begin(day, zone)


@settings(max_examples=1500, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    day=MODERN,
    offset=st.integers(-14 * 60, 14 * 60),
    due=st.integers(-2, 2),
)
def test_a_task_is_found_on_its_own_day_alone(zone: str, day: date, offset: int, due: int) -> None:
    """Within a day, from its beginning to the next one's: moments near it, and days near it."""
    start, end = due_bound(day.isoformat(), zone), due_bound((day + ONE).isoformat(), zone)
    moment = begin(day, zone) + timedelta(minutes=offset)
    other = day + due * ONE

    is_within = start.moment <= rfc3339(moment) < end.moment
    has_day = start.day <= other.isoformat() < end.day

    assert has_day is (other == day)
    if is_within:
        assert abs(local_day(moment, zone) - day) <= ONE
    # Only where clocks go back over midnight is a moment in two days.
    if local_day(moment, zone) == day and begin(day, zone) <= moment < begin(day + ONE, zone):
        assert is_within


def test_bounds_beyond_the_years_are_infinite() -> None:
    first, last = "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"

    assert due_bound("0001-01-01", "Etc/GMT-14").moment == "-infinity"
    assert due_bound("0001-01-01", "Etc/GMT+12").moment == "0001-01-01T12:00:00.000000Z"
    assert due_bound(first, "Etc/GMT+12").day == "0001-01-01"
    assert due_bound(last, "Etc/GMT-14").day == "infinity"
    assert due_bound(last, "Etc/GMT+12").day == "infinity"
