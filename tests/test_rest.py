"""What HTTP makes of tasks, and GraphQL does not: paths, methods, headers, media types."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.factories import NewTask

READ_ONLY = ("id", "user_id", "version", "created_at", "updated_at")


@pytest.fixture
async def task(adas: httpx.AsyncClient) -> dict[str, Any]:
    """A task of Ada's, as she got it when she made it."""
    task: dict[str, Any] = (await adas.post("/tasks", json=NewTask(completed=False))).json()
    return task


@pytest.fixture
def path(task: dict[str, Any]) -> str:
    """Where the task is."""
    return f"/tasks/{task['id']}"


# What the existing frontend calls


async def test_the_list_is_a_bare_array(adas: httpx.AsyncClient, task: dict[str, Any]) -> None:
    response = await adas.get("/tasks")

    assert response.json() == [task]
    assert response.headers["Content-Type"] == "application/json"


async def test_creating_answers_the_task_its_place_and_its_version(
    adas: httpx.AsyncClient,
) -> None:
    response = await adas.post("/tasks", json={"title": "water", "description": "the fern"})

    task = response.json()
    assert response.status_code == 201
    assert list(task) == [
        "id", "user_id", "title", "description", "completed", "version", "created_at", "updated_at",
    ]  # fmt: skip
    assert response.headers["Location"] == f"/tasks/{task['id']}"
    assert response.headers["ETag"] == '"1"'
    assert (await adas.get(response.headers["Location"])).json() == task


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_put_and_patch_merge(
    method: str, adas: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    response = await adas.request(method, path, json={"completed": True})

    changed = response.json()
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    expected = task | {"completed": True, "version": 2, "updated_at": changed["updated_at"]}
    assert changed == expected


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_whole_task_can_be_sent_back(
    method: str, adas: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    unchanged = await adas.request(method, path, json=task)
    changed = await adas.request(method, path, json=task | {"title": "edited"})

    assert unchanged.json() == task
    assert (changed.json()["title"], changed.json()["version"]) == ("edited", 2)


@pytest.mark.parametrize("value", [None, 7, "x", [], {"a": {}}, 2**70])
async def test_read_only_members_are_ignored_unread(
    value: object, adas: httpx.AsyncClient, task: dict[str, Any], path: str
) -> None:
    unread = dict.fromkeys(READ_ONLY, value)

    created = await adas.post("/tasks", json={"title": "water"} | unread)
    changed = await adas.patch(path, json=unread)

    assert (created.status_code, created.json()["version"]) == (201, 1)
    assert changed.json() == task


async def test_deleting_answers_nothing_and_then_not_found(
    adas: httpx.AsyncClient, path: str
) -> None:
    response = await adas.delete(path)

    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response.headers
    assert (await adas.delete(path)).status_code == 404


async def test_bulk_delete_answers_what_is_gone_and_what_was_not_there(
    adas: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    gone, missing = task["id"], 2**62
    response = await adas.post("/tasks/bulk-delete", json={"task_ids": [missing, gone, gone]})

    assert response.status_code == 200
    assert response.json() == {"deleted": [gone], "not_found": [missing]}


async def test_an_integer_is_an_integer_however_json_writes_it(
    adas: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    body = f'{{"task_ids": [{task["id"]}.0, 1e3]}}'.encode()

    response = await adas.post("/tasks/bulk-delete", content=body, headers=JSON)

    assert response.json() == {"deleted": [task["id"]], "not_found": [1000]}


# Paths and methods

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")

ALLOWED = {
    "/tasks": {"GET", "HEAD", "POST"},
    "/tasks/bulk-delete": {"POST"},
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
async def test_405_allows_every_method_of_the_path(
    method: str, path: str, slash: str, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, path + slash)

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == ALLOWED[path]


@pytest.mark.parametrize(
    "path",
    ["/", "/task", "/tasks/1/2", "/tasks//", "/tasks/1//", "/tasks/bulk-delete/1", "/TASKS",
     "/tasks%0A", "/tasks/bulk-delete%0A/x", "/tasks/1%2F2", "/v1/tasks", "/docs/../rest/tasks.py",
     "/health/x", "/redoc"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_path_is_not_found_for_anyone(
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
async def test_a_slash_at_the_end_changes_nothing_and_redirects_nobody(
    method: str, path: str, body: object, status: int,
    adas: httpx.AsyncClient, task: dict[str, Any],
) -> None:  # fmt: skip
    response = await adas.request(method, path.format(id=task["id"]), json=body)

    assert response.status_code == status


@pytest.mark.parametrize(
    "path",
    ["/tasks", "/tasks/", "/tasks?limit=1", "/tasks?x=1", "/tasks/{id}", "/tasks/999", "/tasks/abc",
     "/health", "/health/ready", "/docs", "/docs/init.js", "/openapi.json", "/nowhere"],
)  # fmt: skip
async def test_head_answers_what_get_does_without_the_body(
    path: str, app: FastAPI, adas: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    path = path.format(id=task["id"])
    got = await adas.get(path, headers={"X-Request-ID": "same"})
    head = await adas.head(path, headers={"X-Request-ID": "same"})

    assert (head.status_code, dict(head.headers)) == (got.status_code, dict(got.headers))
    assert head.headers["Content-Length"] == str(len(got.content))


@pytest.mark.parametrize("path", ["/tasks", "/health", "/nowhere", "/docs/init.js"])
async def test_the_body_of_a_head_is_not_left_to_the_server_to_drop(
    path: str, app: FastAPI
) -> None:
    sent = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": path, "query_string": b"",
             "headers": [(b"host", b"localhost")]}  # fmt: skip
    await app(scope, None, send)  # type: ignore[arg-type]

    assert b"".join(message.get("body", b"") for message in sent) == b""


@pytest.mark.parametrize(
    ("written", "status"),
    [
        ("007", 400), ("00", 400), ("4.0", 400), ("4e0", 400), ("abc", 400), ("+4", 400),
        ("-0", 400), ("0x4", 400), ("1_0", 400), ("%204", 400), ("4%20", 400), ("4%0A", 400),
        ("%D9%A3", 400), ("%00", 400), ("%FF", 400), ("a" * 5000, 400), ("Bulk-Delete", 400),
        ("0", 404), ("-1", 404), ("9223372036854775808", 404), ("9" * 5000, 404),
        ("9223372036854775807", 404),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_id_in_a_path_is_a_canonical_integer(
    method: str, written: str, status: int, adas: httpx.AsyncClient
) -> None:
    response = await adas.request(method, f"/tasks/{written}")

    assert response.status_code == status


async def test_a_percent_encoded_digit_is_that_digit(
    adas: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    encoded = "".join(f"%{ord(digit):02X}" for digit in str(task["id"]))

    # RFC 3986, 6.2.2.2: the two are the same URI, and proxies turn one into the other.
    assert (await adas.get(f"/tasks/{encoded}")).json() == task


# Pages


async def test_the_next_page_is_linked_relatively_and_keeps_filter_and_limit(
    adas: httpx.AsyncClient,
) -> None:
    for _ in range(3):
        await adas.post("/tasks", json=NewTask(completed=True))

    first = await adas.get("/tasks?limit=2&completed=true")
    second = await adas.get(first.links["next"]["url"])

    assert first.headers["Link"].startswith("</tasks?limit=2&completed=true&cursor=")
    assert first.headers["Link"].endswith('>; rel="next"')
    assert (len(first.json()), len(second.json())) == (2, 1)
    assert "Link" not in second.headers


async def test_what_was_not_asked_for_is_not_in_the_link(adas: httpx.AsyncClient) -> None:
    for _ in range(2):
        await adas.post("/tasks", json=NewTask())

    link = (await adas.get("/tasks/?limit=1")).headers["Link"]

    assert link.startswith("</tasks?limit=1&cursor=")
    assert "completed" not in link


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("colour=red", {"colour": "extra_forbidden"}),
        ("Limit=5", {"Limit": "extra_forbidden"}),
        ("x", {"x": "extra_forbidden"}),
        ("=", {"": "extra_forbidden"}),
        ("limit=5&limit=5", {"limit": "repeated_parameter"}),
        ("limit=", {"limit": "empty_parameter"}),
        ("completed=", {"completed": "empty_parameter"}),
        ("cursor=", {"cursor": "empty_parameter"}),
        ("completed", {"completed": "empty_parameter"}),
        ("completed=1", {"completed": "bool_parsing"}),
        ("completed=TRUE", {"completed": "bool_parsing"}),
        ("completed=null", {"completed": "bool_parsing"}),
        ("limit=ten", {"limit": "int_parsing"}),
        ("limit=010", {"limit": "int_parsing"}),
        ("limit=1.0", {"limit": "int_parsing"}),
        ("limit=%2B1", {"limit": "int_parsing"}),
        ("limit=0", {"limit": "greater_than_equal"}),
        ("limit=1001", {"limit": "less_than_equal"}),
        ("limit=" + "9" * 5000, {"limit": "int_parsing_size"}),
        ("cursor=x", {"cursor": "cursor_invalid"}),
        ("a=1&limit=0&b=2", {"a": "extra_forbidden", "b": "extra_forbidden"}),
        ("limit=0&completed=1", {"completed": "bool_parsing", "limit": "greater_than_equal"}),
    ],
)
async def test_a_typo_in_the_query_is_never_silently_lost(
    query: str, errors: dict[str, str], adas: httpx.AsyncClient
) -> None:
    response = await adas.get(f"/tasks?{query}")

    assert response.status_code == 400
    assert _errors(response) == errors


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("PUT", {}), ("PATCH", {}), ("DELETE", None)]
)
async def test_where_there_is_no_query_every_parameter_is_unknown(
    method: str, body: object, adas: httpx.AsyncClient, path: str
) -> None:
    response = await adas.request(method, f"{path}?limit=1", json=body)

    assert _errors(response) == {"limit": "extra_forbidden"}


# Conditions

MALFORMED = ["", " ", "1", "W/", '"', '"1', '1"', "*, *", '*, "1"', '"1" "2"', "'1'", 'w/"1"',
             '"a b"', '"1";', ",", '"1"x']  # fmt: skip


@pytest.mark.parametrize(
    "tags", ['"1"', 'W/"1"', "*", '"7", "1"', '"7",W/"1" ', ' ,"7",,"1",', '"x", "1", ""']
)
async def test_who_has_the_version_is_not_sent_it_again(
    tags: str, adas: httpx.AsyncClient, path: str
) -> None:
    response = await adas.get(path, headers={"If-None-Match": tags})

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Origin"


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', '""', '"01"', '"1.0"', '"99999999999"', '"x,1"'])
async def test_who_has_another_version_is(tags: str, adas: httpx.AsyncClient, path: str) -> None:
    response = await adas.get(path, headers={"If-None-Match": tags})

    assert (response.status_code, response.headers["ETag"]) == (200, '"1"')


@pytest.mark.parametrize("tags", ['"1"', 'W/"1"', "*", '"7", "1"', '"7",W/"1" '])
async def test_a_write_happens_at_the_version_named(
    tags: str, adas: httpx.AsyncClient, path: str
) -> None:
    changed = await adas.patch(path, json={"title": "new"}, headers={"If-Match": tags})

    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', '""', '"01"', '"99999999999"', '"2", "x"'])
@pytest.mark.parametrize(
    ("method", "body"), [("PUT", {}), ("PATCH", {"title": "new"}), ("DELETE", None)]
)
async def test_a_write_at_another_version_is_412(
    method: str, body: object, tags: str,
    adas: httpx.AsyncClient, task: dict[str, Any], path: str,
) -> None:  # fmt: skip
    response = await adas.request(method, path, json=body, headers={"If-Match": tags})

    assert (response.status_code, response.json()["type"]) == (412, "precondition_failed")
    assert (await adas.get(path)).json() == task


@pytest.mark.parametrize("tags", MALFORMED)
@pytest.mark.parametrize(
    ("method", "header", "body"),
    [
        ("GET", "If-None-Match", None),
        ("PUT", "If-Match", {}),
        ("PATCH", "If-Match", {}),
        ("DELETE", "If-Match", None),
    ],
)
async def test_a_malformed_condition_is_invalid(
    method: str, header: str, body: object, tags: str, adas: httpx.AsyncClient, path: str
) -> None:
    response = await adas.request(method, path, json=body, headers={header: tags})

    assert response.status_code == 400
    assert _errors(response) == {header: "etag_invalid"}


async def test_a_condition_on_several_lines_is_one_list(adas: httpx.AsyncClient, path: str) -> None:
    lines = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]

    assert (await adas.get(path, headers=lines)).status_code == 304


@pytest.mark.parametrize("tags", [None, "*", '"1"'])
async def test_a_condition_on_a_task_that_is_not_there_is_404(
    tags: str | None, adas: httpx.AsyncClient
) -> None:
    headers = {"If-Match": tags} if tags else {}

    assert (await adas.delete("/tasks/999", headers=headers)).status_code == 404


# Bodies

JSON = {"Content-Type": "application/json"}
PATCH = "application/merge-patch+json"


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8",
     'application/json;charset="UTF-8"', "application/json; profile=x"],
)  # fmt: skip
async def test_json_is_read(media_type: str, adas: httpx.AsyncClient) -> None:
    headers = {"Content-Type": media_type}

    response = await adas.post("/tasks", content=b'{"title": "water"}', headers=headers)

    assert response.status_code == 201


@pytest.mark.parametrize(
    "media_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
     "application/problem+json", "application/jsonx", "application/json, text/plain", "*/*",
     "application/json; charset=utf-16", "application/json; charset=latin-1", PATCH],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk-delete"])
async def test_what_is_not_json_is_415(
    path: str, media_type: str | None, adas: httpx.AsyncClient
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}

    response = await adas.post(path, content=b'{"title": "water"}', headers=headers)

    assert (response.status_code, response.json()["type"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_merge_patch_is_read(method: str, adas: httpx.AsyncClient, path: str) -> None:
    headers = {"Content-Type": PATCH}

    response = await adas.request(method, path, content=b'{"title": "new"}', headers=headers)

    assert (response.status_code, response.json()["title"]) == (200, "new")


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 201)])
async def test_an_encoded_body_is_415(encoding: str, status: int, adas: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": encoding}

    response = await adas.post("/tasks", json={"title": "water"}, headers=headers)

    assert response.status_code == status


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"title": "missing"}),
        ({"title": None}, {"title": "string_type"}),
        ({"title": 4}, {"title": "string_type"}),
        ({"title": ["x"]}, {"title": "string_type"}),
        ({"title": "x", "description": 4}, {"description": "string_type"}),
        ({"title": "x", "completed": None}, {"completed": "bool_type"}),
        ({"title": "x", "completed": "true"}, {"completed": "bool_type"}),
        ({"title": "x", "completed": 1}, {"completed": "bool_type"}),
        ({"title": "x", "completd": True}, {"completd": "extra_forbidden"}),
        ({"title": "x", "userId": "ada"}, {"userId": "extra_forbidden"}),
        ({"title": "x", "": 1}, {"": "extra_forbidden"}),
        ({"Title": "x"}, {"title": "missing", "Title": "extra_forbidden"}),
        ([], {"": "model_type"}),
        (None, {"": "model_type"}),
        ("title", {"": "model_type"}),
    ],
)
async def test_a_new_task_is_what_the_document_says(
    body: object, errors: dict[str, str], adas: httpx.AsyncClient
) -> None:
    response = await adas.post("/tasks", content=json.dumps(body), headers=JSON)

    assert response.status_code == 400
    assert _errors(response) == errors
    assert (await adas.get("/tasks")).json() == []


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"title": None}, {"title": "string_type"}),
        ({"completed": None}, {"completed": "bool_type"}),
        ({"titel": "x"}, {"titel": "extra_forbidden"}),
        ({"op": "replace", "path": "/title"}, {"op": "extra_forbidden", "path": "extra_forbidden"}),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_changes_are_what_the_document_says(
    method: str, body: object, errors: dict[str, str],
    adas: httpx.AsyncClient, task: dict[str, Any], path: str,
) -> None:  # fmt: skip
    response = await adas.request(method, path, json=body)

    assert _errors(response) == errors
    assert (await adas.get(path)).json() == task


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"task_ids": "missing"}),
        ({"ids": [1]}, {"task_ids": "missing", "ids": "extra_forbidden"}),
        ({"task_ids": None}, {"task_ids": "list_type"}),
        ({"task_ids": 1}, {"task_ids": "list_type"}),
        ({"task_ids": []}, {"task_ids": "too_short"}),
        ({"task_ids": [1] * 1001}, {"task_ids": "too_long"}),
        ({"task_ids": [1, "2", True, None, 4.5]}, {
            "task_ids.1": "int_type", "task_ids.2": "int_type", "task_ids.3": "int_type",
            "task_ids.4": "int_from_float"}),
        ({"task_ids": [1], "user_id": "bob"}, {"user_id": "extra_forbidden"}),
    ],
)  # fmt: skip
async def test_a_bulk_deletion_is_what_the_document_says(
    body: object, errors: dict[str, str], adas: httpx.AsyncClient
) -> None:
    response = await adas.post("/tasks/bulk-delete", json=body)

    assert _errors(response) == errors


# Caching


async def test_a_task_may_be_kept_by_her_browser_alone(adas: httpx.AsyncClient, path: str) -> None:
    response = await adas.get(path)

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
async def test_nothing_else_may_be_kept(
    method: str, path: str, body: object, adas: httpx.AsyncClient, task: dict[str, Any]
) -> None:
    response = await adas.request(method, path.format(id=task["id"]), json=body)

    assert response.headers["Cache-Control"] == "no-store"


# The order of checks

BROKEN = {"content": b"{", "headers": {"Content-Type": "text/plain", "If-Match": "x"}}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/tasks?x=1"), ("PUT", "/tasks/abc?x=1"), ("DELETE", "/tasks/abc?x=1")],
)
async def test_identity_comes_before_everything_the_request_says(
    method: str, path: str, client: httpx.AsyncClient
) -> None:
    assert (await client.request(method, path, **BROKEN)).status_code == 401  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nowhere", 404), ("PATCH", "/tasks", 405)]
)
async def test_routing_comes_before_identity(
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
async def test_then_come_body_validation_existence_and_precondition(
    path: str, body: bytes, headers: dict[str, str], status: int,
    adas: httpx.AsyncClient, task: dict[str, Any],
) -> None:  # fmt: skip
    response = await adas.patch(path.format(id=task["id"]), content=body, headers=headers)

    assert response.status_code == status


def _errors(response: httpx.Response) -> dict[str, str]:
    return {error["field"]: error["code"] for error in response.json()["errors"]}
