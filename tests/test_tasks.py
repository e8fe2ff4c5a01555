"""What a user can do with tasks, through both protocols."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tests.factories import NewTask
from tests.operations import Page, Task
from tests.people import Person
from tests.surfaces import ApiError

NEVER_USED = 2**62
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IMPOSSIBLE = [0, -1, 2**63, 10**30]

# Unicode's white space, all of it.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"


# --- Creating -----------------------------------------------------------------------------


async def test_a_new_task_is_open_and_has_version_one(ada: Person) -> None:
    task = await ada.create_task("water the plants")

    assert (task.title, task.description) == ("water the plants", None)
    assert (task.user_id, task.completed, task.version) == ("ada", False, 1)
    assert task.created_at == task.updated_at


async def test_a_new_task_has_the_members_that_were_sent(ada: Person) -> None:
    task = await ada.create_task("water", description="the basil a lot", completed=True)

    assert (task.description, task.completed, task.version) == ("the basil a lot", True, 1)


async def test_a_created_task_can_be_read(ada: Person) -> None:
    task = await ada.create_task(**NewTask())

    assert await ada.get_task(task.id) == task
    assert (await ada.list_tasks()).tasks == [task]


async def test_ids_rise_and_are_never_used_again(ada: Person) -> None:
    first = await ada.create_task("first")
    await ada.delete_task(first.id)
    second = await ada.create_task("second")

    assert 1 <= first.id < second.id


@pytest.mark.parametrize("user_id", ["DpqJ0yVxKsF0cR2JkXy8nJx2mZPv3hQb", "4", "ädä", "a" * 255])
async def test_the_owner_is_written_as_the_auth_server_writes_it(
    user_id: str, ada: Person, sql: asyncpg.Connection
) -> None:
    await sql.execute("INSERT INTO users (id) VALUES ($1)", user_id)
    await sql.execute("UPDATE user_sessions SET user_id = $1", user_id)

    assert (await ada.create_task("water the plants")).user_id == user_id


# --- Text --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", WHITE_SPACE)
async def test_a_title_is_trimmed_of_all_of_unicodes_white_space(space: str, ada: Person) -> None:
    task = await ada.create_task(f"{space}water{space}the plants{space}")

    assert task.title == f"water{space}the plants"


@pytest.mark.parametrize("title", ["", " ", WHITE_SPACE])
async def test_a_blank_title_is_too_short(title: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task(title)

    assert refusal.value.fields == {"title": "string_too_short"}


@pytest.mark.parametrize(
    "title",
    ["x" * 200, "🪴" * 200, "e\u0301" * 100, "👩‍🌾" * 66, f"  {'x' * 200}  "],
    ids=["ascii", "emoji", "combining", "joined", "trimmed"],
)
async def test_a_title_may_have_two_hundred_code_points(title: str, ada: Person) -> None:
    assert (await ada.create_task(title)).title == title.strip()


@pytest.mark.parametrize(
    "title", ["x" * 201, "🪴" * 201, "e\u0301" * 100 + "x"], ids=["ascii", "emoji", "combining"]
)
async def test_a_title_of_one_more_is_too_long(title: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task(title)

    assert refusal.value.fields == {"title": "string_too_long"}


@pytest.mark.parametrize("letter", ["x", "🪴"])
async def test_a_description_may_have_a_thousand_code_points(letter: str, ada: Person) -> None:
    task = await ada.create_task("water", description=letter * 1000)
    with ada.refused("validation_error") as refusal:
        await ada.create_task("water", description=letter * 1001)

    assert task.description == letter * 1000
    assert refusal.value.fields == {"description": "string_too_long"}


@pytest.mark.parametrize("description", ["", " ", WHITE_SPACE, None])
async def test_a_blank_description_is_none(description: str | None, ada: Person) -> None:
    assert (await ada.create_task("water", description=description)).description is None


@pytest.mark.parametrize("description", ["  kept \n", "\u200b", "\ufeff", "\x1c"])
async def test_any_other_description_is_kept_as_sent(description: str, ada: Person) -> None:
    assert (await ada.create_task("water", description=description)).description == description


@pytest.mark.parametrize(
    "text",
    ["é", "e\u0301", "\U0010ffff", "\ue000", "\u202ertl", "שלום", "a\r\nb\tc", "\x01\x7f", "'; --"],
)
async def test_text_survives_byte_for_byte(text: str, ada: Person) -> None:
    task = await ada.create_task(f"<{text}>", description=text)
    read = await ada.get_task(task.id)

    assert (read.title.encode(), (read.description or "").encode()) == (
        f"<{text}>".encode(),
        text.encode(),
    )


@pytest.mark.parametrize("field", ["title", "description"])
async def test_nul_is_refused(field: str, ada: Person) -> None:
    task = await ada.create_task("water")

    with ada.refused("validation_error") as refusal:
        await ada.change_task(task.id, None, **{field: "a\x00b"})

    assert refusal.value.fields == {field: "string_nul"}


async def test_every_error_is_reported_not_only_the_first(ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task("", description="x" * 1001)

    assert refusal.value.fields == {"title": "string_too_short", "description": "string_too_long"}


# --- Changing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"title": " new "}, ("new", "old", False)),
        ({"description": "new"}, ("old", "new", False)),
        ({"description": None}, ("old", None, False)),
        ({"description": " "}, ("old", None, False)),
        ({"completed": True}, ("old", "old", True)),
        ({"title": "new", "completed": True}, ("new", "old", True)),
    ],
)
async def test_an_absent_member_stays_and_null_clears(
    changes: dict[str, Any], expected: tuple[str, str | None, bool], ada: Person
) -> None:
    task = await ada.create_task("old", description="old")

    changed = await ada.change_task(task.id, **changes)

    assert (changed.title, changed.description, changed.completed) == expected
    assert (changed.id, changed.version, changed.created_at) == (task.id, 2, task.created_at)
    assert changed.updated_at > task.updated_at
    assert await ada.get_task(task.id) == changed


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": " water "},
        {"description": "the fern"},
        {"completed": False},
        {"title": "water", "description": "the fern", "completed": False},
    ],
)
async def test_a_change_of_nothing_keeps_the_version_and_the_time(
    changes: dict[str, Any], ada: Person
) -> None:
    task = await ada.create_task("water", description="the fern")

    assert await ada.change_task(task.id, **changes) == task


@pytest.mark.parametrize("field", ["title", "completed"])
async def test_only_the_description_may_be_null(field: str, ada: Person) -> None:
    task = await ada.create_task("water")

    with ada.refused("validation_error") as refusal:
        await ada.change_task(task.id, **{field: None})

    assert list(refusal.value.fields) == [field]
    assert await ada.get_task(task.id) == task


async def test_a_change_is_made_at_the_expected_version(ada: Person) -> None:
    task = await ada.create_task("water")

    assert (await ada.change_task(task.id, version=1, completed=True)).version == 2


@pytest.mark.parametrize("changes", [{"completed": False}, {"completed": True}, {}])
async def test_a_change_at_another_version_is_refused_even_if_it_changes_nothing(
    changes: dict[str, Any], ada: Person
) -> None:
    task = await ada.create_task("water")
    changed = await ada.change_task(task.id, completed=True)

    with ada.refused("precondition_failed"):
        await ada.change_task(task.id, version=1, **changes)

    assert await ada.get_task(task.id) == changed


async def test_of_many_changes_at_one_version_one_is_made(ada: Person) -> None:
    task = await ada.create_task("water")

    outcomes = await asyncio.gather(
        *(ada.change_task(task.id, version=1, title=f"water {n}") for n in range(5)),
        return_exceptions=True,
    )

    [made] = [outcome for outcome in outcomes if isinstance(outcome, Task)]
    assert await ada.get_task(task.id) == made
    assert [_type(outcome) for outcome in outcomes if outcome is not made] == (
        ["precondition_failed"] * 4
    )


def _type(outcome: object) -> object:
    return outcome.problem["type"] if isinstance(outcome, ApiError) else outcome


# --- Deleting ----------------------------------------------------------------------------


async def test_a_deleted_task_is_not_found(ada: Person) -> None:
    task = await ada.create_task("water")

    await ada.delete_task(task.id)

    for action in (ada.get_task, ada.change_task, ada.delete_task):
        with ada.refused("not_found_error"):
            await action(task.id)


async def test_a_task_is_deleted_at_the_expected_version(ada: Person) -> None:
    task = await ada.create_task("water")

    with ada.refused("precondition_failed"):
        await ada.delete_task(task.id, version=2)
    await ada.delete_task(task.id, version=1)

    assert (await ada.list_tasks()).tasks == []


async def test_a_bulk_deletion_answers_in_the_order_sent_and_counts_duplicates_once(
    ada: Person,
) -> None:
    one, two, three = [(await ada.create_task(title)).id for title in ("one", "two", "three")]

    outcome = await ada.delete_tasks([three, NEVER_USED, one, three, NEVER_USED])

    assert outcome == ([three, one], [NEVER_USED])
    assert [task.id for task in (await ada.list_tasks()).tasks] == [two]


async def test_a_repeated_bulk_deletion_finds_none(ada: Person) -> None:
    task = await ada.create_task("water")

    assert await ada.delete_tasks([task.id]) == ([task.id], [])
    assert await ada.delete_tasks([task.id]) == ([], [task.id])


async def test_a_bulk_deletion_does_not_find_impossible_ids(ada: Person) -> None:
    task = await ada.create_task("water")

    assert await ada.delete_tasks([*IMPOSSIBLE, task.id]) == ([task.id], IMPOSSIBLE)


async def test_bob_cannot_delete_adas_tasks_among_his(ada: Person, bob: Person) -> None:
    hers, his = await ada.create_task("hers"), await bob.create_task("his")

    assert await bob.delete_tasks([hers.id, his.id]) == ([his.id], [hers.id])
    assert await ada.get_task(hers.id) == hers


@pytest.mark.parametrize(
    ("ids", "code"), [([], "too_short"), ([1] * 1001, "too_long"), (range(1, 1002), "too_long")]
)
async def test_a_bulk_deletion_takes_one_to_a_thousand_ids(
    ids: list[int], code: str, ada: Person
) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.delete_tasks(list(ids))

    assert list(refusal.value.fields.values()) == [code]
    assert await ada.delete_tasks(list(range(1, 1001))) == ([], list(range(1, 1001)))


# --- Owners ------------------------------------------------------------------------------


async def test_bob_cannot_see_adas_task(ada: Person, bob: Person) -> None:
    task = await ada.create_task("water the plants")

    with bob.refused("not_found_error"):
        await bob.get_task(task.id)
    assert (await bob.list_tasks()).tasks == []


@pytest.mark.parametrize("version", [None, 1, 7])
async def test_adas_task_does_not_exist_for_bob_at_any_version(
    version: int | None, ada: Person, bob: Person
) -> None:
    task = await ada.create_task("water the plants")

    with bob.refused("not_found_error") as changing:
        await bob.change_task(task.id, version=version, title="steal the plants")
    with bob.refused("not_found_error"):
        await bob.delete_task(task.id, version=version)

    assert changing.value.problem["detail"] == f"Task with ID {task.id} not found"
    assert await ada.get_task(task.id) == task


@pytest.mark.parametrize("task_id", [NEVER_USED, *IMPOSSIBLE])
async def test_there_is_no_task_under_an_id_never_used(task_id: int, ada: Person) -> None:
    with ada.refused("not_found_error") as refusal:
        await ada.change_task(task_id, version=7, completed=True)

    assert refusal.value.problem["detail"] == f"Task with ID {task_id} not found"


@pytest.mark.parametrize("task_id", ["abc", "007", "4.0", "+4", "-0", "4 ", "٣", "0x4", "1_0"])
async def test_an_id_that_is_no_canonical_integer_is_invalid(task_id: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.change_task(task_id, completed=True)

    assert list(refusal.value.fields.values()) == ["int_parsing"]


async def test_a_request_without_a_session_is_refused(stranger: Person, ada: Person) -> None:
    task = await ada.create_task("water the plants")

    for attempt in (
        stranger.list_tasks(),
        stranger.create_task("mine"),
        stranger.get_task(task.id),
        stranger.change_task(task.id, title="mine"),
        stranger.delete_task(task.id),
        stranger.delete_tasks([task.id]),
    ):
        with stranger.refused("authentication_error"):
            await attempt


# --- Listing -----------------------------------------------------------------------------


async def test_the_list_begins_with_the_newest_task(ada: Person) -> None:
    for title in ("first", "second", "third"):
        await ada.create_task(title)

    assert (await ada.list_tasks()).titles == ["third", "second", "first"]


async def test_a_change_does_not_move_a_task(ada: Person) -> None:
    first = await ada.create_task("first")
    await ada.create_task("second")

    await ada.change_task(first.id, completed=True)

    assert (await ada.list_tasks()).titles == ["second", "first"]


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ({}, ["open", "done"]),
        ({"completed": True}, ["done"]),
        ({"completed": False}, ["open"]),
    ],
)
async def test_the_list_can_be_filtered(
    query: dict[str, Any], titles: list[str], ada: Person
) -> None:
    await ada.create_task("done", completed=True)
    await ada.create_task("open")

    assert (await ada.list_tasks(**query)).titles == titles


@pytest.mark.parametrize("limit", [-1, 1001, 2**63])
async def test_a_page_has_at_most_a_thousand_tasks(limit: int, ada: Person) -> None:
    with ada.refused("validation_error"):
        await ada.list_tasks(limit=limit)

    page = await ada.list_tasks(limit=1000)
    assert (page.tasks, page.next_cursor) == ([], None)


@pytest.mark.parametrize("completed", [None, True, False])
async def test_the_pages_together_are_the_list(completed: bool | None, ada: Person) -> None:
    made = [await ada.create_task(**NewTask(completed=n % 5 > 0)) for n in range(25)]
    wanted = [task for task in reversed(made) if completed in (None, task.completed)]
    query = {} if completed is None else {"completed": completed}

    pages = [page.tasks async for page in _walk(ada, limit=10, **query)]

    assert [task for page in pages for task in page] == wanted
    assert [len(page) for page in pages] == {None: [10, 10, 5], True: [10, 10], False: [5]}[
        completed
    ]


async def test_a_page_that_is_just_full_is_the_last(ada: Person) -> None:
    for _ in range(2):
        await ada.create_task(**NewTask())

    assert (await ada.list_tasks(limit=2)).next_cursor is None
    assert (await ada.list_tasks(limit=1)).next_cursor is not None


async def test_pages_do_not_overlap_when_tasks_share_a_timestamp(
    ada: Person, sql: asyncpg.Connection
) -> None:
    ids = [(await ada.create_task(**NewTask())).id for _ in range(7)]
    await sql.execute("UPDATE tasks SET created_at = '2025-12-10 12:34:56Z'")

    found = [task.id async for page in _walk(ada, limit=2) for task in page.tasks]

    assert found == ids[::-1]


async def test_pages_stay_correct_while_tasks_are_created_and_deleted(ada: Person) -> None:
    made = [await ada.create_task(str(n)) for n in range(6)]
    first = await ada.list_tasks(limit=2)

    await ada.create_task("new")
    await ada.delete_task(first.tasks[-1].id)
    await ada.delete_task(made[2].id)
    rest = await ada.list_tasks(limit=10, cursor=first.next_cursor)

    assert (first.titles, rest.titles) == (["5", "4"], ["3", "1", "0"])


async def test_a_cursor_carries_a_position_and_no_owner(ada: Person, bob: Person) -> None:
    await bob.create_task("his")
    for title in ("hers", "hers too"):
        await ada.create_task(title)

    hers = await ada.list_tasks(limit=1)

    assert (await bob.list_tasks(cursor=hers.next_cursor)).titles == ["his"]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "A" * 21,
        "A" * 23,
        "A" * 22 + "==",
        "A" * 21 + "B",
        "_" * 22,
        "f" * 22,
        "!" * 22,
        "é" * 22,
        "\x00",
        "A" * 5000,
    ],
)
async def test_a_broken_cursor_is_invalid(cursor: str, ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.list_tasks(cursor=cursor)

    assert list(refusal.value.fields.values()) == ["cursor_invalid"]


async def _walk(person: Person, **query: Any) -> AsyncIterator[Page]:
    page = await person.list_tasks(**query)
    yield page
    while page.next_cursor:
        page = await person.list_tasks(cursor=page.next_cursor, **query)
        yield page


# --- Time --------------------------------------------------------------------------------


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
