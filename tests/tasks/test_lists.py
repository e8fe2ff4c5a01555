"""Listing tasks: order, filters, pages and cursors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.factories import NewTask
from tests.operations import Page
from tests.people import Person


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

    listed = [task.id async for page in _walk(ada, limit=2) for task in page.tasks]

    assert listed == ids[::-1]


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
