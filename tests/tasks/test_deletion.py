"""Deleting tasks, through both protocols."""

from __future__ import annotations

import pytest

from tests.people import Person
from tests.tasks.ids import IMPOSSIBLE, NEVER_USED


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
