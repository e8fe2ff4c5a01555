"""Concurrent requests: nothing is lost, done twice or blocked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest

from tests.operations import Task
from tests.people import Person
from tests.surfaces import ApiError

MANY = 20


async def outcomes(*attempts: Awaitable[Any]) -> list[Any]:
    """The result of each attempt, or the type of its error."""
    results = await asyncio.gather(*attempts, return_exceptions=True)
    return [_outcome(result) for result in results]


def _outcome(result: Any) -> Any:
    match result:
        case ApiError(problem={"type": error_type}):
            return error_type
        case BaseException():
            raise result
        case _:
            return result


@pytest.fixture
async def task(ada: Person) -> Task:
    """A task of Ada's, at version 1."""
    return await ada.create_task("water the plants")


# --- Many at once -------------------------------------------------------------------------


async def test_of_many_changes_at_one_version_exactly_one_wins(ada: Person, task: Task) -> None:
    changes = [ada.change_task(task.id, 1, title=f"title {number}") for number in range(MANY)]

    results = await outcomes(*changes)

    [winner] = [result for result in results if isinstance(result, Task)]
    assert results.count("precondition_failed") == MANY - 1
    assert winner.version == 2
    assert await ada.get_task(task.id) == winner


async def test_each_of_many_changes_raises_the_version_by_one(ada: Person, task: Task) -> None:
    changes = [ada.change_task(task.id, title=f"title {number}") for number in range(MANY)]

    results = sorted(await outcomes(*changes), key=lambda changed: changed.version)

    assert [changed.version for changed in results] == list(range(2, MANY + 2))
    assert {changed.title for changed in results} == {f"title {n}" for n in range(MANY)}
    assert await ada.get_task(task.id) == results[-1]


async def test_changes_of_different_members_are_all_kept(ada: Person, task: Task) -> None:
    await outcomes(
        ada.change_task(task.id, title="water the ferns"),
        ada.change_task(task.id, description="they need little"),
        ada.change_task(task.id, completed=True),
    )

    current = await ada.get_task(task.id)
    assert (current.title, current.description) == ("water the ferns", "they need little")
    assert (current.completed, current.version) == (True, 4)


async def test_the_same_change_many_times_over_happens_once(ada: Person, task: Task) -> None:
    results = await outcomes(*(ada.change_task(task.id, completed=True) for _ in range(MANY)))

    assert [changed.version for changed in results] == [2] * MANY
    assert len({changed.updated_at for changed in results}) == 1


async def test_later_versions_have_later_times(ada: Person, task: Task) -> None:
    changes = [ada.change_task(task.id, title=f"title {number}") for number in range(MANY)]

    results = sorted(await outcomes(*changes), key=lambda changed: changed.version)

    times = [task.updated_at, *(changed.updated_at for changed in results)]
    assert times == sorted(times)
    assert {changed.created_at for changed in results} == {task.created_at}


async def test_of_many_deletions_exactly_one_finds_the_task(ada: Person, task: Task) -> None:
    results = await outcomes(*(ada.delete_task(task.id) for _ in range(MANY)))

    assert Counter(results) == {None: 1, "not_found_error": MANY - 1}


async def test_of_a_change_and_a_deletion_at_one_version_one_wins(ada: Person) -> None:
    for _ in range(5):
        task = await ada.create_task("water the plants")

        changed, deleted = await outcomes(
            ada.change_task(task.id, 1, completed=True), ada.delete_task(task.id, 1)
        )

        left = [each.id for each in (await ada.list_tasks()).tasks if each.id == task.id]
        assert (isinstance(changed, Task), deleted, left) in [
            (True, "precondition_failed", [task.id]),
            (False, None, []),
        ]


async def test_opposite_deletions_of_many_do_not_deadlock(ada: Person) -> None:
    ids = [(await ada.create_task(f"task {number}")).id for number in range(40)]
    shuffled = ids[1::2] + ids[::2]

    results = await outcomes(
        ada.delete_tasks(ids),
        ada.delete_tasks(ids[::-1]),
        ada.delete_tasks(shuffled),
        ada.delete_tasks(shuffled[::-1]),
    )

    assert sorted(task_id for result in results for task_id in result.deleted) == ids
    assert [len(result.deleted) + len(result.not_found) for result in results] == [40] * 4


async def test_many_may_be_created_at_once(ada: Person, bob: Person) -> None:
    results = await outcomes(
        *(ada.create_task(f"task {number}") for number in range(MANY)),
        *(bob.create_task(f"task {number}") for number in range(MANY)),
    )

    assert len({created.id for created in results}) == 2 * MANY
    assert len((await ada.list_tasks()).tasks) == MANY


# --- One after another, with the lock in our hands ----------------------------------------


async def after(sql: asyncpg.Connection, statement: str, then: Awaitable[Any]) -> Any:
    """What comes of a request that meets somebody's lock, and waits until they are done."""
    async with sql.transaction():
        await sql.execute(statement)
        waiting = asyncio.ensure_future(then)
        await until_somebody_waits(sql)
    return await waiting


async def until_somebody_waits(sql: asyncpg.Connection) -> None:
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(5):
        while not await sql.fetchval(blocked):
            await sql.execute("SELECT pg_sleep(0.005)")


CHANGE = "UPDATE tasks SET title = 'theirs', version = version + 1"
COMPLETE = "UPDATE tasks SET completed = true, version = version + 1"
REOPEN = "UPDATE tasks SET completed = false, version = version + 1"
DELETE = "DELETE FROM tasks"


async def test_a_change_is_refused_if_its_version_is_replaced_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    with ada.refused("precondition_failed"):
        await after(sql, CHANGE, ada.change_task(task.id, 1, completed=True))

    current = await ada.get_task(task.id)
    assert (current.title, current.completed, current.version) == ("theirs", False, 2)


async def test_a_change_is_made_if_its_version_is_reached_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    changed = await after(sql, CHANGE, ada.change_task(task.id, 2, completed=True))

    assert (changed.title, changed.completed, changed.version) == ("theirs", True, 3)


async def test_a_deletion_is_refused_if_its_version_is_replaced_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    with ada.refused("precondition_failed"):
        await after(sql, CHANGE, ada.delete_task(task.id, 1))

    assert (await ada.get_task(task.id)).title == "theirs"


async def test_a_change_that_waited_keeps_the_change_it_waited_for(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    changed = await after(sql, CHANGE, ada.change_task(task.id, completed=True))

    assert (changed.title, changed.completed, changed.version) == ("theirs", True, 3)
    assert changed == await ada.get_task(task.id)


async def test_a_change_that_waited_is_later_than_the_change_it_waited_for(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    async with sql.transaction():
        await sql.execute(CHANGE)
        change = asyncio.ensure_future(ada.change_task(task.id, completed=True))
        await until_somebody_waits(sql)
        theirs = await sql.fetchval(
            "UPDATE tasks SET updated_at = clock_timestamp() RETURNING updated_at"
        )
    await change

    assert await sql.fetchval("SELECT updated_at FROM tasks") > theirs


async def test_a_clock_that_was_set_back_does_not_move_a_time_back(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    await sql.execute("UPDATE tasks SET updated_at = now() + interval '1 hour'")
    before = await ada.get_task(task.id)

    changed = await ada.change_task(task.id, completed=True)

    assert changed.updated_at == before.updated_at
    assert changed.version == before.version + 1


async def test_a_change_finds_nothing_if_the_task_is_deleted_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    with ada.refused("not_found_error"):
        await after(sql, DELETE, ada.change_task(task.id, completed=True))


async def test_a_deletion_finds_nothing_if_the_task_is_deleted_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    with ada.refused("not_found_error"):
        await after(sql, DELETE, ada.delete_task(task.id, 1))


async def test_a_change_changes_nothing_if_it_is_made_by_another_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    changed = await after(sql, COMPLETE, ada.change_task(task.id, completed=True))

    assert (changed.completed, changed.version) == (True, 2)
    assert changed == await ada.get_task(task.id)


async def test_a_change_is_made_again_if_another_reverts_it_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    await ada.change_task(task.id, completed=True)

    changed = await after(sql, REOPEN, ada.change_task(task.id, completed=True))

    assert (changed.completed, changed.version) == (True, 4)


async def test_a_bulk_deletion_does_not_find_tasks_that_are_deleted_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    other = await ada.create_task("sleep in")
    gone = "DELETE FROM tasks WHERE title = 'water the plants'"

    deleted = await after(sql, gone, ada.delete_tasks([other.id, task.id]))

    assert deleted == ([other.id], [task.id])


async def test_a_bulk_deletion_deletes_tasks_that_are_changed_while_it_waits(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    deleted = await after(sql, CHANGE, ada.delete_tasks([task.id]))

    assert deleted == ([task.id], [])


async def test_a_bulk_deletion_locks_in_the_order_of_the_ids_not_of_the_rows(
    ada: Person, sql: asyncpg.Connection
) -> None:
    ids = [(await ada.create_task(f"task {number}")).id for number in range(3)]
    # The first row is now the last: on the page, and in the list's index.
    await sql.execute("UPDATE tasks SET created_at = now() WHERE id = $1", ids[0])

    async with sql.transaction():
        await sql.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", ids[0])
        deletion = asyncio.ensure_future(ada.delete_tasks(ids))
        await until_somebody_waits(sql)
        free = await sql.fetch("SELECT id FROM tasks ORDER BY id FOR UPDATE SKIP LOCKED")

    assert [record["id"] for record in free] == ids
    assert (await deletion).deleted == ids


async def test_a_task_is_not_found_if_its_owner_changes_during_the_wait(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    given_away = "UPDATE tasks SET user_id = 'bob'"

    with ada.refused("not_found_error"):
        await after(sql, given_away, ada.change_task(task.id, title="mine"))

    assert await sql.fetchval("SELECT title FROM tasks") == "water the plants"
