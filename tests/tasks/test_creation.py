"""Creating tasks, through both protocols."""

from __future__ import annotations

import asyncpg
import pytest

from tests.factories import NewTask
from tests.people import Person


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
