"""What changed since: a client that follows has exactly the server's tasks."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.operations import Task
from tests.people import Person
from tests.surfaces import ApiError


class Follower:
    """A client that keeps the tasks that the changes tell of."""

    def __init__(self, person: Person, token: str | None = None) -> None:
        self.tasks: dict[int, Task] = {}
        self.token = token
        self.starts = 0
        self._person = person

    async def follow(self, limit: int = 1000) -> list[Task]:
        """Read all there is; return the tasks in the order of the list."""
        has_more = True
        while has_more:
            try:
                page = await self._person.list_changes(since=self.token, limit=limit)
            except ApiError as error:
                if error.problem["status"] != 410:
                    raise
                self.tasks, self.token = {}, None
                self.starts += 1
                continue
            assert len(page.tasks) == limit or not page.has_more
            for task in page.tasks:
                self.tasks[task.id] = task
                if task.deleted_at:
                    del self.tasks[task.id]
            self.token, has_more = page.token, page.has_more
        return sorted(self.tasks.values(), key=lambda task: task.id, reverse=True)


async def test_who_follows_has_exactly_the_list(ada: Person) -> None:
    follower = Follower(ada)
    assert await follower.follow() == []

    made = [await ada.create_task(f"task {number}") for number in range(5)]
    assert await follower.follow() == (await ada.list_tasks()).tasks
    await ada.change_task(made[1].id, completed=True)
    assert await follower.follow() == (await ada.list_tasks()).tasks
    await ada.delete_task(made[3].id)
    await ada.delete_tasks([made[0].id, made[4].id])
    assert await follower.follow() == (await ada.list_tasks()).tasks


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
async def test_pages_have_as_many_as_asked_for_while_there_are_more(
    ada: Person, limit: int
) -> None:
    for number in range(5):
        await ada.create_task(f"task {number}")

    follower = Follower(ada)

    assert await follower.follow(limit) == (await ada.list_tasks()).tasks


async def test_changes_come_in_the_order_of_the_last_change_each_task_once(ada: Person) -> None:
    first, second = [await ada.create_task(title) for title in ("first", "second")]
    since = (await ada.list_changes()).token
    await ada.change_task(second.id, completed=True)
    await ada.change_task(first.id, completed=True)
    last = await ada.change_task(second.id, title="third")

    page = await ada.list_changes(since=since)

    assert [task.id for task in page.tasks] == [first.id, second.id]
    assert page.tasks[1] == last


async def test_a_list_has_the_token_of_what_changes_after_it(ada: Person) -> None:
    await ada.create_task("first")
    token = (await ada.list_tasks()).sync_token
    second = await ada.create_task("second")

    page = await ada.list_changes(since=token)

    assert page.tasks == [second]
    assert page.token == (await ada.list_tasks()).sync_token


async def test_an_empty_list_has_a_token_too(ada: Person) -> None:
    token = (await ada.list_tasks()).sync_token
    task = await ada.create_task("first")

    assert (await ada.list_changes(since=token)).tasks == [task]


async def test_nobody_sees_the_changes_of_another(ada: Person, bob: Person) -> None:
    await ada.create_task("first")

    assert (await bob.list_changes()).tasks == []


async def test_the_token_of_another_person_is_expired(ada: Person, bob: Person) -> None:
    await ada.create_task("first")
    await bob.create_task("other")
    token = (await ada.list_changes()).token

    with bob.refused("sync_token_expired"):
        await bob.list_changes(since=token)


async def test_a_token_that_is_ahead_is_expired(ada: Person, sql: asyncpg.Connection) -> None:
    await ada.create_task("first")
    token = (await ada.list_changes()).token
    await sql.execute("UPDATE feeds SET seq = seq - 1 WHERE user_id = 'ada'")

    with ada.refused("sync_token_expired"):
        await ada.list_changes(since=token)


@pytest.mark.parametrize("since", ["x", "A" * 42, "_" * 43, "A" * 42 + "B", "A" * 44, "é" * 43])
async def test_a_malformed_token_is_invalid(ada: Person, since: str) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.list_changes(since=since)

    assert refusal.value.fields == {"since": "sync_token_invalid"}


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_1_to_1000_tasks(ada: Person, limit: int) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.list_changes(limit=limit)

    assert list(refusal.value.fields) == ["limit"]


# --- The list's entity tag ----------------------------------------------------------------


async def test_a_list_that_did_not_change_is_304_until_it_does(
    ada_client: httpx.AsyncClient,
) -> None:
    await ada_client.post("/tasks", json={"title": "first"})
    first = await ada_client.get("/tasks?limit=1")
    known = {"If-None-Match": first.headers["etag"]}

    again = await ada_client.get("/tasks?limit=1", headers=known)
    await ada_client.post("/tasks", json={"title": "second"})
    changed = await ada_client.get("/tasks?limit=1", headers=known)

    assert first.headers["etag"].startswith('W/"')
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["sync-token"] == first.headers["sync-token"]
    assert (changed.status_code, changed.json()[0]["title"]) == (200, "second")
    assert changed.headers["etag"] != first.headers["etag"]


async def test_an_unchanged_list_is_not_read(
    ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    await ada_client.post("/tasks", json={"title": "first"})
    tag = (await ada_client.get("/tasks")).headers["etag"]
    # Would be seen by whoever reads the list.
    await sql.execute(
        "ALTER TABLE tasks DISABLE TRIGGER USER; UPDATE tasks SET title = 'second';"
        "ALTER TABLE tasks ENABLE TRIGGER USER"
    )

    response = await ada_client.get("/tasks", headers={"If-None-Match": tag})

    assert response.status_code == 304


@pytest.mark.parametrize(
    "form", ["{}", "{},", 'W/"x", {}', '{}, "1"', "strong", "-gzip", "--br", ";zstd", "*"]
)
async def test_every_form_of_the_tag_is_known(ada_client: httpx.AsyncClient, form: str) -> None:
    await ada_client.post("/tasks", json={"title": "first"})
    tag = (await ada_client.get("/tasks")).headers["etag"]
    if form == "strong":
        sent = tag.removeprefix("W/")
    elif form[0] in "-;":
        sent = tag[:-1] + form + '"'
    else:
        sent = form.format(tag)

    assert (await ada_client.get("/tasks", headers={"If-None-Match": sent})).status_code == 304


@pytest.mark.parametrize("tag", ['"1"', '"x"', '""', 'W/"{}x"', '"{}.00000000"'])
async def test_another_tag_is_not_the_lists(ada_client: httpx.AsyncClient, tag: str) -> None:
    token = (await ada_client.get("/tasks")).headers["sync-token"]

    response = await ada_client.get("/tasks", headers={"If-None-Match": tag.format(token)})

    assert response.status_code == 200


async def test_a_malformed_tag_is_invalid(ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.get("/tasks", headers={"If-None-Match": "x"})

    assert response.status_code == 400


async def test_the_tag_of_another_person_or_history_is_not_known(
    ada_client: httpx.AsyncClient, bob_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    for client in (ada_client, bob_client):
        await client.post("/tasks", json={"title": "first"})
    known = {"If-None-Match": (await ada_client.get("/tasks")).headers["etag"]}

    of_bob = await bob_client.get("/tasks", headers=known)
    await sql.execute("UPDATE feeds SET epoch = epoch + 1 WHERE user_id = 'ada'")
    later = await ada_client.get("/tasks", headers=known)

    assert [response.status_code for response in (of_bob, later)] == [200, 200]
    assert len(of_bob.json()) == len(later.json()) == 1
