"""The times of a list's rows are read as numbers, and lose nothing by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.task_fields import Task
from persistence.task_rows import tasks_of
from tests.people import Person

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(2242, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(datetime(1900, 1, 1), LAST.replace(tzinfo=None), timezones=st.just(UTC)),
    st.none() | st.datetimes(datetime(1900, 1, 1), LAST.replace(tzinfo=None)),
)
@settings(max_examples=500)
def test_a_time_is_the_same_to_the_microsecond(made: datetime, done: datetime | None) -> None:
    done = done and done.replace(tzinfo=UTC)
    row = (1, "ada", "t", None, done is not None, 1, made, made, None, "none", ["a"], done)
    numbers = tuple(_seconds(each) if isinstance(each, datetime) else each for each in row)

    assert tasks_of([numbers, row]) == [Task(*row), Task(*row)]  # type: ignore[list-item]


def _seconds(time: datetime) -> float:
    """As PostgreSQL divides."""
    return (time - EPOCH) // timedelta(microseconds=1) / 1_000_000


def test_no_rows_are_no_tasks() -> None:
    assert tasks_of([]) == []


@pytest.mark.parametrize("year", [1900, 1969, 1970, 2025, 2106, 2241])
async def test_a_list_has_the_times_that_one_task_has(
    ada: Person, sql: asyncpg.Connection, year: int
) -> None:
    task = await ada.create_task("water the plants")
    times = await sql.fetch(
        "UPDATE tasks SET completed = true, created_at = at.at,"
        " updated_at = at.at + interval '1 us', completed_at = at.at - interval '1 us'"
        " FROM (SELECT make_timestamptz($2, 5, 6, 7, 8, 9, 'UTC')"
        " + random() * 10e6 * interval '1 us' AS at) AS at WHERE id = $1 RETURNING created_at",
        task.id,
        year,
    )

    [listed] = (await ada.list_tasks()).tasks

    assert listed == await ada.get_task(task.id)
    assert datetime.fromisoformat(listed.created_at) == times[0]["created_at"]
