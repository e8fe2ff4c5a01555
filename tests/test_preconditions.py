"""Conditional requests: ``ETag``, ``If-Match`` and ``If-None-Match``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.factories import NewTask


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


MALFORMED = ["", " ", "1", "W/", '"', '"1', '1"', "*, *", '*, "1"', '"1" "2"', "'1'", 'w/"1"',
             '"a b"', '"1";', ",", '"1"x']  # fmt: skip


@pytest.mark.parametrize(
    "tags", ['"1"', 'W/"1"', "*", '"7", "1"', '"7",W/"1" ', ' ,"7",,"1",', '"x", "1", ""']
)
async def test_get_returns_304_if_the_client_has_the_version(
    tags: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.get(path, headers={"If-None-Match": tags})

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Authorization, Origin"


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', '""', '"01"', '"1.0"', '"99999999999"', '"x,1"'])
async def test_get_returns_the_task_if_the_client_has_another_version(
    tags: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.get(path, headers={"If-None-Match": tags})

    assert (response.status_code, response.headers["ETag"]) == (200, '"1"')


@pytest.mark.parametrize("tags", ['"1"', 'W/"1"', "*", '"7", "1"', '"7",W/"1" '])
async def test_a_write_happens_at_a_version_of_if_match(
    tags: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    changed = await ada_client.patch(path, json={"title": "new"}, headers={"If-Match": tags})

    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', '""', '"01"', '"99999999999"', '"2", "x"'])
@pytest.mark.parametrize(
    ("method", "body"), [("PUT", {}), ("PATCH", {"title": "new"}), ("DELETE", None)]
)
async def test_a_write_at_another_version_is_412_and_changes_nothing(
    method: str, body: object, tags: str,
    ada_client: httpx.AsyncClient, task: dict[str, Any], path: str,
) -> None:  # fmt: skip
    response = await ada_client.request(method, path, json=body, headers={"If-Match": tags})

    assert (response.status_code, response.json()["type"]) == (412, "precondition_failed")
    assert (await ada_client.get(path)).json() == task


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
async def test_a_malformed_condition_is_a_validation_error(
    method: str, header: str, body: object, tags: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    response = await ada_client.request(method, path, json=body, headers={header: tags})

    assert response.status_code == 400
    assert _error_codes(response) == {header: "etag_invalid"}


async def test_several_headers_are_one_list(ada_client: httpx.AsyncClient, path: str) -> None:
    lines = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]

    assert (await ada_client.get(path, headers=lines)).status_code == 304


@pytest.mark.parametrize("tags", [None, "*", '"1"'])
async def test_a_missing_task_is_404_under_any_condition(
    tags: str | None, ada_client: httpx.AsyncClient
) -> None:
    headers = {"If-Match": tags} if tags else {}

    assert (await ada_client.delete("/tasks/999", headers=headers)).status_code == 404


def _error_codes(response: httpx.Response) -> dict[str, str]:
    """The code of each error in the response, by its field."""
    return {error["field"]: error["code"] for error in response.json()["errors"]}
