"""Deleted tasks: where they are and are not, how one is had back, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from persistence import task_lists
from tests.operations import EmptyTrash, Restore, Task
from tests.people import Person
from tests.surfaces import ApiError

NEVER_USED = 2**62
IMPOSSIBLE = [0, -1, 2**63, 10**30]


@pytest.fixture
async def task(ada: Person) -> Task:
    """A task of Ada's in her trash, as it was before she deleted it."""
    task = await ada.create_task("water the plants", description="the fern")
    await ada.delete_task(task.id)
    return task


# --- What is in the trash ------------------------------------------------------------------


async def test_a_deleted_task_is_in_the_trash_as_it_was(ada: Person, task: Task) -> None:
    page = await ada.list_trash()

    [deleted] = page.tasks
    assert deleted.deleted_at is not None
    assert deleted.deleted_at >= task.updated_at
    assert deleted == Task(**{**_members(task), "deleted_at": deleted.deleted_at})
    assert page.next_cursor is None


def _members(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.__slots__}


async def test_a_task_that_lives_has_no_time_of_deletion(ada: Person) -> None:
    task = await ada.create_task("water the plants")

    assert task.deleted_at is None
    assert (await ada.get_task(task.id)).deleted_at is None
    assert [each.deleted_at for each in (await ada.list_tasks()).tasks] == [None]
    assert (await ada.list_trash()).tasks == []


async def test_a_deleted_task_is_found_nowhere_else(ada: Person, task: Task) -> None:
    await ada.create_task("another")

    assert (await ada.list_tasks()).titles == ["another"]
    assert (await ada.list_tasks(completed=False)).titles == ["another"]
    for attempt in (
        ada.get_task(task.id),
        ada.change_task(task.id, title="new"),
        ada.change_task(task.id, version=task.version, title="new"),
        ada.change_task(task.id, version=task.version + 7, title="new"),
        ada.delete_task(task.id),
        ada.delete_task(task.id, version=task.version),
    ):
        with ada.refused("not_found_error"):
            await attempt
    assert await ada.delete_tasks([task.id]) == ([], [task.id])
    assert [each.title for each in (await ada.list_trash()).tasks] == ["water the plants"]


async def test_the_trash_begins_with_what_was_deleted_last(ada: Person) -> None:
    one, two, three = [await ada.create_task(title) for title in ("one", "two", "three")]
    for task in (two, three, one):
        await ada.delete_task(task.id)

    assert (await ada.list_trash()).titles == ["one", "three", "two"]


async def test_tasks_deleted_together_were_deleted_at_one_time_and_the_newest_is_first(
    ada: Person,
) -> None:
    ids = [(await ada.create_task(title)).id for title in ("one", "two", "three")]
    await ada.delete_tasks([ids[1], ids[0], ids[2]])

    page = await ada.list_trash()

    assert page.titles == ["three", "two", "one"]
    assert len({task.deleted_at for task in page.tasks}) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_the_pages_together_are_the_trash(ada: Person, limit: int) -> None:
    ids = [(await ada.create_task(f"task {number}")).id for number in range(7)]
    await ada.delete_tasks(ids[:3])
    for task_id in ids[3:]:
        await ada.delete_task(task_id)

    titles: list[str] = []
    page = await ada.list_trash(limit=limit)
    titles += page.titles
    while page.next_cursor is not None:
        page = await ada.list_trash(limit=limit, cursor=page.next_cursor)
        titles += page.titles

    assert titles == [f"task {number}" for number in (6, 5, 4, 3, 2, 1, 0)]


async def test_a_cursor_of_one_list_is_none_of_the_other(ada: Person) -> None:
    ids = [(await ada.create_task(title)).id for title in ("one", "two", "three", "four")]
    await ada.delete_tasks(ids[:2])
    of_list = (await ada.list_tasks(limit=1)).next_cursor
    of_trash = (await ada.list_trash(limit=1)).next_cursor

    with ada.refused("validation_error") as in_the_trash:
        await ada.list_trash(limit=1, cursor=of_list)
    with ada.refused("validation_error") as in_the_list:
        await ada.list_tasks(limit=1, cursor=of_trash)

    assert in_the_trash.value.fields == in_the_list.value.fields == {"cursor": "cursor_invalid"}


@pytest.mark.parametrize("limit", [-1, 1001])
async def test_a_page_of_the_trash_has_at_most_a_thousand_tasks(ada: Person, limit: int) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.list_trash(limit=limit)

    assert list(refusal.value.fields) == ["limit"]


# --- Restoring ----------------------------------------------------------------------------


async def test_a_restored_task_lives_again_one_version_up(ada: Person, task: Task) -> None:
    restored = await ada.restore_task(task.id)

    assert restored.updated_at > task.updated_at
    assert restored == Task(
        **{**_members(task), "version": task.version + 1, "updated_at": restored.updated_at}
    )
    assert await ada.get_task(task.id) == restored
    assert (await ada.list_tasks()).tasks == [restored]
    assert (await ada.list_trash()).tasks == []


async def test_a_restored_task_has_its_old_place_in_the_list(ada: Person) -> None:
    one, *_ = [await ada.create_task(title) for title in ("one", "two")]
    await ada.delete_task(one.id)

    await ada.restore_task(one.id)

    assert (await ada.list_tasks()).titles == ["two", "one"]


async def test_a_restored_task_can_be_changed_and_deleted_again(ada: Person, task: Task) -> None:
    restored = await ada.restore_task(task.id)
    changed = await ada.change_task(task.id, restored.version, completed=True)
    await ada.delete_task(task.id, changed.version)

    assert (await ada.restore_task(task.id)).version == changed.version + 1


async def test_a_restored_task_was_completed_when_it_was(
    ada: Person, sql: asyncpg.Connection
) -> None:
    # As the release before completes a task: without a time.
    task_id = await sql.fetchval(
        "INSERT INTO tasks (user_id, title, completed) VALUES ($1, 'one', true) RETURNING id",
        ada.user_id,
    )
    before = await ada.get_task(task_id)
    await ada.delete_task(task_id)

    assert (await ada.restore_task(task_id)).completed_at == before.completed_at


@pytest.mark.parametrize("which", ["living", "twice", "never used", *IMPOSSIBLE])
async def test_what_is_not_in_the_trash_cannot_be_restored(
    ada: Person, task: Task, which: object
) -> None:
    task_id = {"twice": task.id, "never used": NEVER_USED}.get(str(which), which)
    if which == "living":
        task_id = (await ada.create_task("living")).id
    if which == "twice":
        await ada.restore_task(task.id)

    with ada.refused("not_found_error") as refusal:
        await ada.restore_task(task_id)

    assert refusal.value.problem["detail"] == f"Task with ID {task_id} not found"


async def test_an_id_to_restore_is_an_integer(ada: Person) -> None:
    with ada.refused("validation_error"):
        await ada.restore_task("007")


async def test_of_many_restorations_one_is_done(ada: Person, task: Task) -> None:
    outcomes = await asyncio.gather(
        *(ada.restore_task(task.id) for _ in range(5)), return_exceptions=True
    )

    assert [each.version for each in outcomes if isinstance(each, Task)] == [task.version + 1]
    refused = [each.problem["type"] for each in outcomes if isinstance(each, ApiError)]
    assert refused == ["not_found_error"] * 4


# --- Emptying -----------------------------------------------------------------------------


async def test_what_is_emptied_is_gone_for_good(
    ada: Person, task: Task, sql: asyncpg.Connection
) -> None:
    kept = await ada.create_task("kept")

    await ada.empty_trash()

    assert (await ada.list_trash()).tasks == []
    with ada.refused("not_found_error"):
        await ada.restore_task(task.id)
    assert [row["id"] for row in await sql.fetch("SELECT id FROM tasks")] == [kept.id]
    assert (await ada.list_tasks()).tasks == [kept]


async def test_an_empty_trash_can_be_emptied(ada: Person) -> None:
    await ada.empty_trash()

    assert (await ada.list_trash()).tasks == []


# --- Owners -------------------------------------------------------------------------------


async def test_adas_trash_does_not_exist_for_bob(ada: Person, bob: Person, task: Task) -> None:
    before = (await ada.list_trash()).tasks

    await bob.empty_trash()
    with bob.refused("not_found_error"):
        await bob.restore_task(task.id)

    assert (await bob.list_trash()).tasks == []
    assert (await ada.list_trash()).tasks == before != []


@pytest.mark.parametrize(
    "attempt",
    [Person.list_trash, Person.empty_trash, lambda person: person.restore_task(1)],
    ids=["list", "empty", "restore"],
)
async def test_a_stranger_has_no_trash(
    stranger: Person, attempt: Callable[[Person], Awaitable[object]]
) -> None:
    with stranger.refused("authentication_error"):
        await attempt(stranger)


# --- Exactly once -------------------------------------------------------------------------


async def test_a_restoration_with_a_key_is_done_once(ada: Person, task: Task) -> None:
    restored = await ada.surface.do(ada.token, Restore(str(task.id)), "once")
    await ada.delete_task(task.id)

    assert await ada.surface.do(ada.token, Restore(str(task.id)), "once") == restored
    with ada.refused("not_found_error"):
        await ada.get_task(task.id)


async def test_with_a_key_the_trash_is_emptied_once(ada: Person, task: Task) -> None:
    first = await ada.surface.do(ada.token, EmptyTrash(), "once")
    another = await ada.create_task("another")
    await ada.delete_task(another.id)

    assert await ada.surface.do(ada.token, EmptyTrash(), "once") == first
    assert (await ada.list_trash()).titles == ["another"]


# --- REST ---------------------------------------------------------------------------------


async def test_only_a_deleted_task_has_the_member(ada_client: httpx.AsyncClient) -> None:
    made = (await ada_client.post("/tasks", json={"title": "water"})).json()
    await ada_client.delete(f"/tasks/{made['id']}")
    [deleted] = (await ada_client.get("/tasks/trash")).json()
    restored = await ada_client.post(f"/tasks/{made['id']}/restore")

    assert "deleted_at" not in made
    assert {**deleted, "deleted_at": None} == {**made, "deleted_at": None}
    assert "deleted_at" not in restored.json()
    assert (restored.status_code, restored.headers["ETag"]) == (200, '"2"')


async def test_a_whole_task_of_the_trash_may_be_sent_back(ada_client: httpx.AsyncClient) -> None:
    made = (await ada_client.post("/tasks", json={"title": "water"})).json()
    await ada_client.delete(f"/tasks/{made['id']}")
    [deleted] = (await ada_client.get("/tasks/trash")).json()
    await ada_client.post(f"/tasks/{made['id']}/restore")

    response = await ada_client.put(f"/tasks/{made['id']}", json=deleted | {"title": "rest"})

    assert (response.status_code, response.json()["title"]) == (200, "rest")
    assert "deleted_at" not in response.json()


async def test_the_trash_has_links_and_envelopes_as_the_list_has(
    ada_client: httpx.AsyncClient,
) -> None:
    ids = [(await ada_client.post("/tasks", json={"title": f"{n}"})).json()["id"] for n in range(3)]
    await ada_client.post("/tasks/bulk-delete", json={"task_ids": ids})

    first = await ada_client.get("/tasks/trash", params={"limit": 2})
    wrapped = await ada_client.get("/tasks/trash/", params={"limit": 2, "envelope": "true"})
    cursor = wrapped.json()["next_cursor"]
    rest = await ada_client.get("/tasks/trash", params={"limit": 2, "cursor": cursor})

    assert first.headers["Link"] == f'<?limit=2&cursor={cursor}>; rel="next"'
    assert wrapped.json()["items"] == first.json()
    assert [task["title"] for task in rest.json()] == ["0"]
    assert "Link" not in rest.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/tasks/trash", "DELETE, GET, HEAD"),
        ("PATCH", "/tasks/trash/", "DELETE, GET, HEAD"),
        ("GET", "/tasks/1/restore", "POST"),
        ("DELETE", "/tasks/abc/restore", "POST"),
    ],
)
async def test_other_methods_are_not_allowed(
    ada_client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await ada_client.request(method, path)

    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


async def test_the_trash_is_no_task(ada_client: httpx.AsyncClient) -> None:
    head = await ada_client.head("/tasks/trash")
    nowhere = await ada_client.post("/tasks/trash/restore")
    emptied = await ada_client.delete("/tasks/trash")

    assert (head.status_code, head.content) == (200, b"")
    assert nowhere.status_code == 404
    assert (emptied.status_code, emptied.content) == (204, b"")


@pytest.mark.parametrize("name", ["completed", "last", "titel"])
async def test_an_unknown_parameter_of_the_trash_is_rejected(
    ada_client: httpx.AsyncClient, name: str
) -> None:
    response = await ada_client.get("/tasks/trash", params={name: "true"})

    assert response.json()["errors"][0]["code"] == "extra_forbidden"


# --- GraphQL ------------------------------------------------------------------------------

PAGE = """{
  trash(first: 2) {
    totalCount edges { cursor node { title deletedAt } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
  tasks { totalCount }
}"""


async def test_the_trash_is_a_connection_of_its_own(ada_client: httpx.AsyncClient) -> None:
    ids = [(await ada_client.post("/tasks", json={"title": f"{n}"})).json()["id"] for n in range(4)]
    await ada_client.post("/tasks/bulk-delete", json={"task_ids": ids[1:]})

    response = await ada_client.post("/graphql", json={"query": PAGE})

    data = response.json()["data"]
    trash, info = data["trash"], data["trash"]["pageInfo"]
    assert (trash["totalCount"], data["tasks"]["totalCount"]) == (3, 1)
    assert [edge["node"]["title"] for edge in trash["edges"]] == ["3", "2"]
    assert all(edge["node"]["deletedAt"] for edge in trash["edges"])
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    assert [info["startCursor"], info["endCursor"]] == [edge["cursor"] for edge in trash["edges"]]


async def test_emptying_tells_how_many_tasks_there_were(ada_client: httpx.AsyncClient) -> None:
    ids = [(await ada_client.post("/tasks", json={"title": f"{n}"})).json()["id"] for n in range(3)]
    await ada_client.post("/tasks/bulk-delete", json={"task_ids": ids})

    query = {"query": "mutation { first: emptyTrash second: emptyTrash }"}
    response = await ada_client.post("/graphql", json=query)

    assert response.json()["data"] == {"first": 3, "second": 0}


async def test_a_deleted_task_is_answered_as_it_was(ada_client: httpx.AsyncClient) -> None:
    made = (await ada_client.post("/tasks", json={"title": "water"})).json()
    query = f"mutation {{ deleteTask(id: {made['id']}) {{ version updatedAt deletedAt }} }}"

    response = await ada_client.post("/graphql", json={"query": query})

    expected = {"version": 1, "updatedAt": made["updated_at"], "deletedAt": None}
    assert response.json()["data"]["deleteTask"] == expected


async def test_pages_of_the_trash_count_as_items(ada_client: httpx.AsyncClient) -> None:
    fields = " ".join(f"t{n}: trash(first: 1000) {{ nodes {{ id }} }}" for n in range(50))

    response = await ada_client.post("/graphql", json={"query": f"{{ {fields} }}"})

    assert "list items" in response.json()["errors"][0]["message"]


# --- What a full trash costs ---------------------------------------------------------------


async def test_a_page_of_the_list_costs_the_same_however_full_the_trash_is(
    sql: asyncpg.Connection,
) -> None:
    await sql.execute(
        "INSERT INTO tasks (user_id, title, created_at)"
        " SELECT 'ada', 'living', now() - n * interval '1 s' FROM generate_series(1, 300) n;"
        "ANALYZE tasks"
    )
    before = await _blocks_of_a_page(sql)

    # Newer than all that live, so that a page would have to pass over them.
    await sql.execute(
        "INSERT INTO tasks (user_id, title, created_at, deleted_at)"
        " SELECT 'ada', 'deleted', now(), now() FROM generate_series(1, 5000);"
        "ANALYZE tasks"
    )
    after = await _blocks_of_a_page(sql)

    # To pass over the trash would read all its blocks; the index itself may have grown by a few.
    assert after <= before + 20


async def _blocks_of_a_page(sql: asyncpg.Connection) -> int:
    """The blocks that PostgreSQL reads for a page of 50, as the service reads it."""
    values = {"user_id": "ada", "limit": 51, "known": -1}
    page = task_lists.list_statement(
        task_lists.Shape(task_lists.Kind.ALL, "created", descending=True, at_position=False)
    )
    for _ in range(2):  # The first one also reads the catalog.
        [[plan]] = await sql.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {page.sql}",
            *(values[name] for name in page.parameters),
        )
    root = json.loads(plan)[0]["Plan"]
    blocks: int = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return blocks
