"""Changing a task, through both protocols."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.operations import Task
from tests.people import Person
from tests.surfaces import ApiError


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
