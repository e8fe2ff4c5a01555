"""Everybody sees and changes only their own tasks."""

from __future__ import annotations

import pytest

from tests.people import Person
from tests.tasks.ids import IMPOSSIBLE, NEVER_USED


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
