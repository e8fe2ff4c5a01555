"""REST over HTTP: paths, methods, status codes, caching, and the order of the checks."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.factories import NewTask

JSON = {"Content-Type": "application/json"}
READ_ONLY = ("id", "user_id", "version", "created_at", "updated_at")


@pytest.fixture
async def task(ada_client: httpx.AsyncClient) -> dict[str, Any]:
    """A task of Ada's, as JSON."""
    response = await ada_client.post("/tasks", json=NewTask(completed=False))
    task: dict[str, Any] = response.json()
    return task


@pytest.fixture
def path(task: dict[str, Any]) -> str:
    """The path of the task."""
    return f"/tasks/{task['id']}"


# The calls of the existing frontend


async def test_the_list_is_a_bare_array(
    ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    response = await ada_client.get("/tasks")

    assert response.json() == [task]
    assert response.headers["Content-Type"] == "application/json"


async def test_create_returns_the_task_its_location_and_its_etag(
    ada_client: httpx.AsyncClient,
) -> None:
    response = await ada_client.post("/tasks", json={"title": "water", "description": "the fern"})

    task = response.json()
    assert response.status_code == 201
    assert list(task) == [
        "id", "user_id", "title", "description", "completed", "version", "created_at", "updated_at",
        "due", "priority", "tags", "completed_at",
    ]  # fmt: skip
    assert response.headers["Location"] == f"tasks/{task['id']}"
    assert response.headers["ETag"] == '"1"'
    assert (await ada_client.get(response.url.join(response.headers["Location"]))).json() == task


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_put_and_patch_merge_the_body_into_the_task(
    method: str, ada_client: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    response = await ada_client.request(method, path, json={"completed": True})

    changed = response.json()
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    now = changed["updated_at"]
    expected = task | {"completed": True, "version": 2, "updated_at": now, "completed_at": now}
    assert changed == expected


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_whole_task_can_be_sent_back(
    method: str, ada_client: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    unchanged = await ada_client.request(method, path, json=task)
    changed = await ada_client.request(method, path, json=task | {"title": "edited"})

    assert unchanged.json() == task
    assert (changed.json()["title"], changed.json()["version"]) == ("edited", 2)


@pytest.mark.parametrize("value", [None, 7, "x", [], {"a": {}}, 2**70])
async def test_read_only_members_of_any_value_are_ignored(
    value: object, ada_client: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    read_only = dict.fromkeys(READ_ONLY, value)

    created = await ada_client.post("/tasks", json={"title": "water"} | read_only)
    changed = await ada_client.patch(path, json=read_only)

    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert changed.json() == task


async def test_delete_returns_no_content_and_then_not_found(
    ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.delete(path)

    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response.headers
    assert (await ada_client.delete(path)).status_code == 404


async def test_bulk_delete_returns_the_deleted_and_the_missing_ids(
    ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    deleted, missing = task["id"], 2**62
    response = await ada_client.post(
        "/tasks/bulk-delete", json={"task_ids": [missing, deleted, deleted]}
    )

    assert response.status_code == 200
    assert response.json() == {"deleted": [deleted], "not_found": [missing]}


async def test_an_integer_with_a_fraction_or_an_exponent_in_json_is_an_integer(
    ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    body = f'{{"task_ids": [{task["id"]}.0, 1e3]}}'.encode()

    response = await ada_client.post("/tasks/bulk-delete", content=body, headers=JSON)

    assert response.json() == {"deleted": [task["id"]], "not_found": [1000]}


# Paths and methods

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")

ALLOWED = {
    "/tasks": {"GET", "HEAD", "POST"},
    "/tasks/bulk-create": {"POST"},
    "/tasks/bulk-update": {"POST"},
    "/tasks/bulk-delete": {"POST"},
    "/tasks/trash": {"GET", "HEAD", "DELETE"},
    "/tasks/1/restore": {"POST"},
    "/tasks/1": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "/tasks/abc": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "/health": {"GET", "HEAD"},
    "/health/ready": {"GET", "HEAD"},
    "/docs": {"GET", "HEAD"},
    "/docs/init.js": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, path)
        for path, method in itertools.product(ALLOWED, METHODS)
        if method not in ALLOWED[path]
    ],
)
async def test_405_lists_every_method_of_the_path(
    method: str, path: str, slash: str, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, path + slash)

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == ALLOWED[path]


@pytest.mark.parametrize(
    "path",
    ["/task", "/tasks/1/2", "/tasks//", "/tasks/1//", "/tasks/bulk-delete/1", "/TASKS",
     "/tasks%0A", "/tasks/bulk-delete%0A/x", "/tasks/1%2F2", "/v1/tasks", "/docs/../rest/tasks.py",
     "/health/x", "/redoc"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_path_is_404_without_authentication(
    method: str, path: str, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, path)

    assert (response.status_code, response.json()["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/tasks/", None, 200),
        ("HEAD", "/tasks/", None, 200),
        ("GET", "/tasks/?limit=1", None, 200),
        ("POST", "/tasks/", {"title": "water"}, 201),
        ("GET", "/tasks/{id}/", None, 200),
        ("PUT", "/tasks/{id}/", {"completed": True}, 200),
        ("PATCH", "/tasks/{id}/", {"completed": True}, 200),
        ("DELETE", "/tasks/{id}/", None, 204),
        ("POST", "/tasks/bulk-delete/", {"task_ids": [1]}, 200),
        ("GET", "/health/", None, 200),
        ("GET", "/health/ready/", None, 200),
        ("GET", "/docs/", None, 200),
        ("GET", "/openapi.json/", None, 200),
    ],
)
async def test_a_trailing_slash_changes_nothing_and_does_not_redirect(
    method: str, path: str, body: object, status: int,
    ada_client: httpx.AsyncClient, task: dict[str, Any],
) -> None:  # fmt: skip
    response = await ada_client.request(method, path.format(id=task["id"]), json=body)

    assert response.status_code == status


@pytest.mark.parametrize(
    "path",
    ["/tasks", "/tasks/", "/tasks?limit=1", "/tasks?x=1", "/tasks/{id}", "/tasks/999", "/tasks/abc",
     "/health", "/health/ready", "/docs", "/docs/init.js", "/openapi.json", "/nowhere"],
)  # fmt: skip
async def test_head_returns_the_headers_of_get_without_a_body(
    path: str, app: FastAPI, ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    path = path.format(id=task["id"])
    get = await ada_client.get(path, headers={"X-Request-ID": "same"})
    head = await ada_client.head(path, headers={"X-Request-ID": "same"})

    assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))
    assert head.headers["Content-Length"] == str(len(get.content))


@pytest.mark.parametrize("path", ["/tasks", "/health", "/nowhere", "/docs/init.js"])
async def test_the_app_itself_sends_no_body_for_head(path: str, app: FastAPI) -> None:
    messages = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "HEAD", "path": path, "query_string": b"",
             "headers": [(b"host", b"localhost")]}  # fmt: skip
    await app(scope, None, send)  # type: ignore[arg-type]

    assert b"".join(message.get("body", b"") for message in messages) == b""


@pytest.mark.parametrize(
    ("segment", "status"),
    [
        ("007", 400), ("00", 400), ("4.0", 400), ("4e0", 400), ("abc", 400), ("+4", 400),
        ("-0", 400), ("0x4", 400), ("1_0", 400), ("%204", 400), ("4%20", 400), ("4%0A", 400),
        ("%D9%A3", 400), ("%00", 400), ("%FF", 400), ("a" * 5000, 400), ("Bulk-Delete", 400),
        ("0", 404), ("-1", 404), ("9223372036854775808", 404), ("9" * 5000, 404),
        ("9223372036854775807", 404),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_id_in_a_path_must_be_a_canonical_integer(
    method: str, segment: str, status: int, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.request(method, f"/tasks/{segment}")

    assert response.status_code == status


async def test_a_percent_encoded_digit_is_read_as_the_digit(
    ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    encoded = "".join(f"%{ord(digit):02X}" for digit in str(task["id"]))

    # RFC 3986, 6.2.2.2: both are the same URI, and proxies convert one into the other.
    assert (await ada_client.get(f"/tasks/{encoded}")).json() == task


# Caching


async def test_only_the_viewers_own_browser_may_store_a_task(
    ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.get(path)

    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Origin"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/tasks", None),
        ("POST", "/tasks", {"title": "water"}),
        ("PATCH", "/tasks/{id}", {}),
        ("DELETE", "/tasks/{id}", None),
        ("GET", "/tasks/999", None),
        ("GET", "/tasks/abc", None),
        ("POST", "/tasks/bulk-delete", {"task_ids": [1]}),
        ("GET", "/health", None),
        ("GET", "/health/ready", None),
        ("GET", "/docs", None),
        ("GET", "/openapi.json", None),
        ("GET", "/nowhere", None),
        ("PUT", "/tasks", {}),
    ],
)
async def test_no_other_response_may_be_stored(
    method: str, path: str, body: object, ada_client: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    response = await ada_client.request(method, path.format(id=task["id"]), json=body)

    assert response.headers["Cache-Control"] == "no-store"


# The order of the contract

BROKEN = {"content": b"{", "headers": {"Content-Type": "text/plain", "If-Match": "x"}}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/tasks?x=1"), ("PUT", "/tasks/abc?x=1"), ("DELETE", "/tasks/abc?x=1")],
)
async def test_authentication_comes_before_all_validation(
    method: str, path: str, client: httpx.AsyncClient
) -> None:
    assert (await client.request(method, path, **BROKEN)).status_code == 401  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nowhere", 404), ("PATCH", "/tasks", 405)]
)
async def test_routing_comes_before_authentication(
    method: str, path: str, status: int, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, path, **BROKEN)  # type: ignore[arg-type]

    assert response.status_code == status
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/tasks/abc?x=1", b"{" * 70_000, {"Content-Type": "text/plain"}, 415),
        ("/tasks/abc?x=1", b"{" * 70_000, JSON, 413),
        ("/tasks/abc?x=1", b"{", JSON, 400),
        ("/tasks/999", b"{", JSON, 400),
        ("/tasks/999", b'{"title": ""}', JSON, 400),
        ("/tasks/999?x=1", b"{}", JSON, 400),
        ("/tasks/0?x=1", b"{}", JSON, 400),
        ("/tasks/0", b"{}", JSON | {"If-Match": "x"}, 400),
        ("/tasks/999", b"{}", JSON | {"If-Match": "x"}, 400),
        ("/tasks/999", b"{}", JSON | {"If-Match": '"7"'}, 404),
        ("/tasks/{id}", b"{}", JSON | {"If-Match": '"7"'}, 412),
        ("/tasks/{id}", b"{}", JSON | {"If-Match": '"1"'}, 200),
    ],
)
async def test_body_validation_existence_and_precondition_follow_in_this_order(
    path: str, body: bytes, headers: dict[str, str], status: int,
    ada_client: httpx.AsyncClient, task: dict[str, Any],
) -> None:  # fmt: skip
    response = await ada_client.patch(path.format(id=task["id"]), content=body, headers=headers)

    assert response.status_code == status
