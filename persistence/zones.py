"""Where a day begins in a time zone, and what that makes of a bound for due tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from persistence.due import DAY_LENGTH
from persistence.instants import rfc3339

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


@cache
def zone_names() -> frozenset[str]:
    """The names of IANA's time zones, of the package ``tzdata``: the same on every machine."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


def require_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        PydanticCustomError: IANA has none of this name.
    """
    if name not in zone_names():
        raise PydanticCustomError(
            "zone_invalid", "Input should be an IANA time zone, like Europe/Berlin"
        )
    return name


class Bound(NamedTuple):
    """A bound for due tasks, as text for PostgreSQL: for those with a moment, those with a day.

    A task passes "from" if its moment or day is not before the bound's, and "before" if it is.
    """

    moment: str
    day: str


def due_bound(due: str, zone: str) -> Bound:
    """A bound as both a moment and a day.

    A day stands for the moment at which it begins in the zone, for bounds and for tasks: a task
    that is due on a day passes ``due_from`` if its day begins at that moment or later. Days are
    compared as days where both are days, because a zone can skip one.

    Args:
        due: a day, or a moment in UTC, as ``canonical_due`` returns it.
        zone: an IANA name.
    """
    zone_info = ZoneInfo(zone)
    if len(due) == DAY_LENGTH:
        begin = start_of_day(date.fromisoformat(due), zone_info)
        return Bound(rfc3339(begin) if begin else "-infinity", due)
    moment = datetime.fromisoformat(due)
    day = first_day_from(moment, zone_info)
    return Bound(due, day.isoformat() if day else "infinity")


def start_of_day(day: date, zone: ZoneInfo) -> datetime | None:
    """The first moment of a day in a zone, in UTC; ``None`` before the year 1.

    Where clocks skip midnight it is the moment of the change; where midnight comes twice, the
    first one. A day that a zone skips begins when the next one does.
    """
    midnight = datetime.combine(day, time(), tzinfo=zone)
    try:
        begin = midnight.astimezone(UTC)
        if begin.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
            return begin
    except OverflowError:
        return None
    # Midnight is in a gap: the change is between it by the offset after and the one before.
    earliest = midnight.replace(fold=1).astimezone(UTC)
    return _first(earliest, begin, lambda moment: moment.astimezone(zone).date() >= day)


def _first(low: datetime, high: datetime, is_after: Callable[[datetime], bool]) -> datetime:
    """The first whole second from ``low`` to ``high`` for which the claim holds, as at ``high``."""
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (low, middle) if is_after(middle) else (middle, high)
    return low if is_after(low) else high


def first_day_from(moment: datetime, zone: ZoneInfo) -> date | None:
    """The first day that begins in the zone at this moment or later; ``None`` after year 9999."""
    try:
        day = moment.astimezone(zone).date()
    except OverflowError:
        # In the zone it is the year 0, or 10000.
        return date.min if moment.year == 1 else None
    begin = start_of_day(day, zone)
    if begin is not None and begin >= moment:
        return day
    return day + _DAY if day < date.max else None
