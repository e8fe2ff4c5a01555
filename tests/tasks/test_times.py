"""The times of a task."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import asyncpg
import pytest

from tests.people import Person

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stored", "answered"),
    [
        ("2025-12-10 12:34:56.789012Z", "2025-12-10T12:34:56.789012Z"),
        ("2025-12-10 12:34:56Z", "2025-12-10T12:34:56.000000Z"),
        ("2025-12-10 12:34:56.1Z", "2025-12-10T12:34:56.100000Z"),
        ("2025-12-10 12:34:56.000001Z", "2025-12-10T12:34:56.000001Z"),
        ("2025-12-10 12:34:56.5+05:30", "2025-12-10T07:04:56.500000Z"),
        ("1969-12-31 23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0999-01-01 00:00:00Z", "0999-01-01T00:00:00.000000Z"),
    ],
)
async def test_a_timestamp_has_one_form(
    stored: str, answered: str, ada: Person, sql: asyncpg.Connection
) -> None:
    half, even = [await ada.create_task(title) for title in ("half", "even")]
    set_times = "UPDATE tasks SET created_at = $2::text::timestamptz, updated_at = $3 WHERE id = $1"
    await sql.execute(set_times, half.id, stored, NOON.replace(microsecond=500_000))
    await sql.execute(set_times, even.id, stored, NOON)

    half, even = await ada.get_task(half.id), await ada.get_task(even.id)

    assert (half.created_at, half.updated_at) == (answered, "2026-01-01T12:00:00.500000Z")
    assert (even.created_at, even.updated_at) == (answered, "2026-01-01T12:00:00.000000Z")
    assert (await ada.list_tasks()).tasks == [even, half]


async def test_the_server_sets_the_time(ada: Person, sql: asyncpg.Connection) -> None:
    before = await sql.fetchval("SELECT now()")
    task = await ada.create_task("water")
    after = await sql.fetchval("SELECT now()")

    assert before.isoformat() <= task.created_at.replace("Z", "+00:00") <= after.isoformat()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", task.created_at)
