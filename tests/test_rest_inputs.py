"""What REST reads: query parameters and request bodies, and how it rejects invalid ones."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.factories import NewTask

JSON = {"Content-Type": "application/json"}
PATCH = "application/merge-patch+json"


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


# Query parameters


async def test_the_link_to_the_next_page_is_relative_and_keeps_filter_and_limit(
    ada_client: httpx.AsyncClient,
) -> None:
    for _ in range(3):
        await ada_client.post("/tasks", json=NewTask(completed=True))

    first = await ada_client.get("/tasks?limit=2&completed=true")
    second = await ada_client.get(first.url.join(first.links["next"]["url"]))

    assert first.headers["Link"].startswith("<?limit=2&completed=true&cursor=")
    assert first.headers["Link"].endswith('>; rel="next"')
    assert (len(first.json()), len(second.json())) == (2, 1)
    assert "Link" not in second.headers


async def test_the_link_has_no_parameter_that_the_request_did_not_have(
    ada_client: httpx.AsyncClient,
) -> None:
    for _ in range(2):
        await ada_client.post("/tasks", json=NewTask())

    link = (await ada_client.get("/tasks/?limit=1")).headers["Link"]

    assert link.startswith("<?limit=1&cursor=")
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
        # As Python writes booleans; requests and urllib send them like this.
        (urlencode({"completed": True}), {"completed": "bool_parsing"}),
        (urlencode({"envelope": False}), {"envelope": "bool_parsing"}),
        ("completed=null", {"completed": "bool_parsing"}),
        ("limit=ten", {"limit": "int_parsing"}),
        ("limit=010", {"limit": "int_parsing"}),
        ("limit=1.0", {"limit": "int_parsing"}),
        ("limit=%2B1", {"limit": "int_parsing"}),
        ("limit=0", {"limit": "greater_than_equal"}),
        ("limit=1001", {"limit": "less_than_equal"}),
        ("limit=" + "9" * 5000, {"limit": "int_parsing_size"}),
        ("cursor=x", {"cursor": "cursor_invalid"}),
        (
            "a=1&limit=0&b=2&completed=maybe&cursor=",
            {
                "a": "extra_forbidden",
                "b": "extra_forbidden",
                "cursor": "empty_parameter",
                "completed": "bool_parsing",
                "limit": "greater_than_equal",
            },
        ),
        ("limit=0&completed=1", {"completed": "bool_parsing", "limit": "greater_than_equal"}),
    ],
)
async def test_an_invalid_query_parameter_is_an_error_and_not_ignored(
    query: str, errors: dict[str, str], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.get(f"/tasks?{query}")

    assert response.status_code == 400
    assert _error_codes(response) == errors


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("PUT", {}), ("PATCH", {}), ("DELETE", None)]
)
async def test_an_operation_without_query_parameters_rejects_each(
    method: str, body: object, ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.request(method, f"{path}?limit=1", json=body)

    assert _error_codes(response) == {"limit": "extra_forbidden"}


# Bodies


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8",
     'application/json;charset="UTF-8"', "application/json; profile=x"],
)  # fmt: skip
async def test_a_json_body_is_read(media_type: str, ada_client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": media_type}

    response = await ada_client.post("/tasks", content=b'{"title": "water"}', headers=headers)

    assert response.status_code == 201


@pytest.mark.parametrize(
    "media_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
     "application/problem+json", "application/jsonx", "application/json, text/plain", "*/*",
     "application/json; charset=utf-16", "application/json; charset=latin-1", PATCH],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/tasks", "/tasks/bulk-delete"])
async def test_another_media_type_is_415(
    path: str, media_type: str | None, ada_client: httpx.AsyncClient
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}

    response = await ada_client.post(path, content=b'{"title": "water"}', headers=headers)

    assert (response.status_code, response.json()["type"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_merge_patch_body_is_read(
    method: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    headers = {"Content-Type": PATCH}

    response = await ada_client.request(method, path, content=b'{"title": "new"}', headers=headers)

    assert (response.status_code, response.json()["title"]) == (200, "new")


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 201)])
async def test_a_body_with_a_content_encoding_is_415(
    encoding: str, status: int, ada_client: httpx.AsyncClient
) -> None:
    headers = {"Content-Encoding": encoding}

    response = await ada_client.post("/tasks", json={"title": "water"}, headers=headers)

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
async def test_an_invalid_new_task_is_rejected_with_every_error(
    body: object, errors: dict[str, str], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/tasks", content=json.dumps(body), headers=JSON)

    assert response.status_code == 400
    assert _error_codes(response) == errors
    assert (await ada_client.get("/tasks")).json() == []


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
async def test_invalid_changes_are_rejected_with_every_error(
    method: str, body: object, errors: dict[str, str],
    ada_client: httpx.AsyncClient, task: dict[str, Any], path: str,
) -> None:  # fmt: skip
    response = await ada_client.request(method, path, json=body)

    assert _error_codes(response) == errors
    assert (await ada_client.get(path)).json() == task


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
async def test_an_invalid_bulk_deletion_is_rejected_with_every_error(
    body: object, errors: dict[str, str], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/tasks/bulk-delete", json=body)

    assert _error_codes(response) == errors


def _error_codes(response: httpx.Response) -> dict[str, str]:
    """The code of each error in the response, by its field."""
    return {error["field"]: error["code"] for error in response.json()["errors"]}
