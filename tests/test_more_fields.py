"""Due days and moments, priorities, tags, and when a task was completed."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import httpx
import pytest

from tests.people import Person

# --- Due ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("2025-12-10", "2025-12-10"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31", "9999-12-31"),
        ("2025-12-10T12:30:00+01:00", "2025-12-10T11:30:00.000000Z"),
        ("2025-12-10t12:30:00.1234567z", "2025-12-10T12:30:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
async def test_a_task_is_due_on_a_day_or_at_a_moment(ada: Person, sent: str, answered: str) -> None:
    task = await ada.create_task("water the plants", due=sent)

    assert task.due == answered
    assert (await ada.get_task(task.id)).due == answered
    assert (await ada.list_tasks()).tasks == [task]


@pytest.mark.parametrize("sent", ["2025-12-10T12:30:00", "2025-12-10T12:30:00.5"])
async def test_a_time_without_an_offset_is_rejected_with_the_missing_part(
    ada: Person, sent: str
) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task("water the plants", due=sent)

    assert refusal.value.fields == {"due": "offset_missing"}


@pytest.mark.parametrize(
    "sent", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "0000-01-01", "2025-02-29"]
)
async def test_a_time_outside_the_years_1_to_9999_in_utc_is_rejected(
    ada: Person, sent: str
) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task("water the plants", due=sent)

    assert refusal.value.fields == {"due": "due_invalid"}


async def test_null_clears_what_is_due_and_a_day_replaces_a_moment(ada: Person) -> None:
    task = await ada.create_task("water the plants", due="2025-12-10T12:30:00Z")

    assert (await ada.change_task(task.id, due="2025-12-10")).due == "2025-12-10"
    assert (await ada.change_task(task.id, due=None)).due is None


async def test_the_same_moment_with_another_offset_changes_nothing(ada: Person) -> None:
    task = await ada.create_task("water the plants", due="2025-12-10T12:30:00Z")

    assert await ada.change_task(task.id, due="2025-12-10T13:30:00+01:00") == task


# --- Priority and tags --------------------------------------------------------------------


async def test_a_new_task_has_no_priority_no_tags_and_is_never_due(ada: Person) -> None:
    task = await ada.create_task("water the plants")

    assert (task.priority, task.tags, task.due, task.completed_at) == ("none", [], None, None)


@pytest.mark.parametrize("name", ["priority", "tags", "title", "completed"])
async def test_what_null_does_not_clear_is_rejected(
    ada_client: httpx.AsyncClient, name: str
) -> None:
    task = (await ada_client.post("/tasks", json={"title": "water the plants"})).json()

    response = await ada_client.patch(f"/tasks/{task['id']}", json={name: None})

    assert [error["field"] for error in response.json()["errors"]] == [name]


async def test_tags_keep_their_order_and_the_first_spelling(ada: Person) -> None:
    task = await ada.create_task("sow", tags=[" Garden", "home", "GARDEN", "Straße", "STRASSE"])

    assert task.tags == ["Garden", "home", "Straße"]
    assert (await ada.change_task(task.id, tags=["home", "Garden"])).tags == ["home", "Garden"]
    assert (await ada.change_task(task.id, tags=[])).tags == []


async def test_every_bad_tag_is_named(ada: Person) -> None:
    with ada.refused("validation_error") as refusal:
        await ada.create_task("sow", tags=["home", " ", "a,b", "a" * 51, "a\0"])

    assert refusal.value.fields == {
        "tags.1": "string_too_short",
        "tags.2": "tag_comma",
        "tags.3": "string_too_long",
        "tags.4": "string_nul",
    }


# --- Completion ---------------------------------------------------------------------------


async def test_completion_has_the_time_of_the_change_that_made_it(ada: Person) -> None:
    task = await ada.create_task("water the plants")

    done = await ada.change_task(task.id, completed=True)
    renamed = await ada.change_task(task.id, title="water the fern", completed=True)
    undone = await ada.change_task(task.id, completed=False)

    assert done.completed_at == done.updated_at
    assert renamed.completed_at == done.completed_at < renamed.updated_at
    assert undone.completed_at is None


async def test_a_task_that_is_created_done_was_completed_then(ada: Person) -> None:
    task = await ada.create_task("water the plants", completed=True)

    assert task.completed_at == task.created_at


async def test_what_the_release_before_writes_is_read(ada: Person, sql: asyncpg.Connection) -> None:
    """It knows none of the columns."""
    task_id = await sql.fetchval(
        "INSERT INTO tasks (user_id, title, description, completed) VALUES ('ada', 'sow', NULL,"
        " false) RETURNING id"
    )
    assert (await ada.get_task(task_id)).completed_at is None

    await sql.execute("UPDATE tasks SET completed = true, version = 2, updated_at = now()")
    done = await ada.get_task(task_id)
    renamed = await ada.change_task(task_id, title="sow carrots")
    await sql.execute("UPDATE tasks SET completed = false, version = 4, updated_at = now()")
    undone = await ada.get_task(task_id)

    assert done.completed_at == done.updated_at
    assert renamed.completed_at == done.completed_at < renamed.updated_at
    assert undone.completed_at is None


# --- The existing frontend ----------------------------------------------------------------

OLD_MEMBERS: Final = (
    "id", "user_id", "title", "description", "completed", "version", "created_at", "updated_at",
)  # fmt: skip

GOLDEN: Final[list[tuple[str, str, Any, int, Any]]] = [
    ("GET", "", None, 200, []),
    ("POST", "", {"title": "Buy milk", "description": ""}, 201, ["Buy milk", None, False, 1]),
    ("POST", "", {"title": "Rent", "description": "flat"}, 201, ["Rent", "flat", False, 1]),
    ("GET", "", None, 200, [["Rent", "flat", False, 1], ["Buy milk", None, False, 1]]),
    ("PATCH", "/{0}", {"completed": True}, 200, ["Buy milk", None, True, 2]),
    ("PATCH", "/{0}", {"completed": False}, 200, ["Buy milk", None, False, 3]),
    ("PUT", "/{1}", {"title": "Pay rent"}, 200, ["Pay rent", "flat", False, 2]),
    ("PUT", "/{1}", "a whole task", 200, ["Pay rent", "edited", False, 3]),
    ("GET", "?completed=false", None, 200,
     [["Pay rent", "edited", False, 3], ["Buy milk", None, False, 3]]),
    ("POST", "", {"title": " "}, 400, None),
    ("PATCH", "/{0}", {"title": None}, 400, None),
    ("DELETE", "/{0}", None, 204, None),
    ("DELETE", "/{0}", None, 404, None),
    ("POST", "/bulk-delete", "both", 200, "the second"),
]  # fmt: skip
"""What the frontend sends, and of each response the status and the members that it knows."""


async def test_the_existing_frontend_is_answered_as_before(ada_client: httpx.AsyncClient) -> None:
    created: list[dict[str, Any]] = []
    for method, path, body, status, expected in GOLDEN:
        ids = [task["id"] for task in created]
        if body == "a whole task":
            body = created[1] | {"title": "Pay rent", "description": "edited"}
        elif body == "both":
            body, expected = {"task_ids": ids}, {"deleted": ids[1:], "not_found": ids[:1]}
        request = {} if body is None else {"json": body}

        response = await ada_client.request(method, f"/tasks{path.format(*ids)}", **request)

        assert response.status_code == status, response.text
        document = response.json() if response.content else None
        if status == 201:
            created.append({name: document[name] for name in OLD_MEMBERS})
        if isinstance(expected, dict):
            assert document == expected
        elif expected is not None:
            assert _known(document) == expected


def _known(document: Any) -> Any:
    if isinstance(document, list):
        return [_known(each) for each in document]
    assert document.keys() >= {*OLD_MEMBERS}
    return [document[name] for name in ("title", "description", "completed", "version")]


@pytest.mark.parametrize("members", [OLD_MEMBERS, None])
async def test_a_whole_task_that_is_sent_back_loses_nothing(
    ada_client: httpx.AsyncClient, members: tuple[str, ...] | None
) -> None:
    """Of a frontend that knows the old members only, and of one that spreads what it got."""
    new = {"title": "sow", "due": "2025-12-10", "priority": "high", "tags": ["garden"]}
    task = (await ada_client.post("/tasks", json=new | {"completed": True})).json()
    sent = {name: task[name] for name in members or task}

    response = await ada_client.put(f"/tasks/{task['id']}", json=sent | {"title": "sow carrots"})

    changed = {"title", "version", "updated_at"}
    kept = {name: value for name, value in task.items() if name not in changed}
    assert response.status_code == 200
    assert {name: response.json()[name] for name in kept} == kept
