"""Each operation responds as the OpenAPI document says, and every documented status occurs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

import api.http.body
from api.app import create_app
from persistence import tasks
from persistence.idempotency import KeyInFlight, KeyMismatch
from tests.conftest import new_client, settings_of_tests
from tests.documented import DOCUMENT, OPERATIONS
from tests.openapi.operations import BODIES, RESPONSES, documented_operation, validator_of
from tests.streams import Stream

JSON = {"Content-Type": "application/json"}


# Responses
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_succeeds_as_documented(
    operation: str, ada_client: httpx.AsyncClient
) -> None:
    response = await _send(ada_client, operation, await _task_id(ada_client, operation))

    assert response.is_success
    _as_documented(operation, response)


# A request for each documented status. In the other direction, each test client fails on a status
# that is not documented; see ``tests.documented``.
PROVOCATIONS: dict[str, dict[str, Any]] = {
    "304": {"headers": {"If-None-Match": "*"}},
    "400": {"headers": {"Host": "no host"}},
    "401": {"headers": {"Authorization": "Bearer x"}},
    "404": {"task_id": 999},
    "408": {"json": None, "content": Stream(1000, seconds=0.01), "headers": JSON},
    "409": {"headers": {"Idempotency-Key": "running"}},
    "410": {"params": {"since": "A" * 43}},
    "412": {"headers": {"If-Match": '"7"'}},
    "413": {"json": "x" * 70_000},
    "415": {"headers": {"Content-Type": "text/plain"}},
    "421": {"headers": {"Host": "evil.example"}},
    "422": {"headers": {"Idempotency-Key": "used"}},
    "429": {},
    "500": {},
    "503": {},
}
CONDITIONAL = {
    "Idempotency-Replayed",
    "Link",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Total-Count",
}
"""Headers that only some responses have: with another page, with rate limits switched on."""
SUCCESS = {"200", "201", "204"}


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (operation, status)
        for operation, (method, path) in OPERATIONS.items()
        for status in DOCUMENT["paths"][path][method.lower()]["responses"]
        if status not in SUCCESS
    ],
)
async def test_every_documented_status_occurs(
    operation: str,
    status: str,
    ada_client: httpx.AsyncClient,
    without_database: httpx.AsyncClient,
    spent_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task_id = await _task_id(ada_client, operation)
    client = {"503": without_database, "429": spent_client}.get(status, ada_client)
    DEFECTS.get(status, lambda _: None)(monkeypatch)

    response = await _send(client, operation, **{"task_id": task_id} | PROVOCATIONS[status])

    assert response.status_code == int(status)
    _as_documented(operation, response)


def _raise_everywhere(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] = RuntimeError
) -> None:
    def _fail(*arguments: object) -> None:
        raise error

    for name in (
        *("list_changed_page", "create", "remove_many", "get", "change", "remove"),
        *("list_trash", "restore", "empty_trash", "create_many", "change_many"),
    ):
        monkeypatch.setattr(tasks, name, _fail)
    monkeypatch.setattr("persistence.feeds.changes", _fail)
    monkeypatch.setattr("rest.health._ok", _fail)
    monkeypatch.setattr("api.server.readiness.find_schema_problem", _fail)


DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "408": lambda monkeypatch: monkeypatch.setattr(api.http.body, "BODY_SECONDS", 0.01),
    "409": lambda monkeypatch: _raise_everywhere(monkeypatch, KeyInFlight),
    "422": lambda monkeypatch: _raise_everywhere(monkeypatch, KeyMismatch),
    "500": _raise_everywhere,
}


@pytest.fixture
async def charged_client(
    ada_client: httpx.AsyncClient, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of an app with rate limits."""
    budget = {"rate_limit_enabled": True, "rate_limit_write": "100/minute"}
    app = create_app(settings_of_tests(database_url=database_url, **budget))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        yield client


RATE_LIMIT = {name for name in CONDITIONAL if "RateLimit" in name}
NO_PROVOCATION: dict[str, Any] = {}
CHARGED = PROVOCATIONS | dict.fromkeys(SUCCESS, NO_PROVOCATION) | {"400": {"params": {"typo": "x"}}}


@pytest.mark.parametrize(
    "operation", [name for name in OPERATIONS if "401" in documented_operation(name)["responses"]]
)
async def test_the_rate_limit_headers_are_documented_where_they_are_sent(
    operation: str, charged_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented, sent = {}, {}
    for status in documented_operation(operation)["responses"].keys() - {"429", "503"}:
        task_id = await _task_id(charged_client, operation)
        with monkeypatch.context() as patched:
            DEFECTS.get(status, lambda _: None)(patched)
            options = {"task_id": task_id} | CHARGED[status]
            response = await _send(charged_client, operation, **options)
        response_object = _resolved(documented_operation(operation)["responses"][status])
        documented[status] = RATE_LIMIT & response_object["headers"].keys()
        sent[str(response.status_code)] = {name for name in RATE_LIMIT if name in response.headers}

    assert sent == documented
    assert {status for status in sent if not sent[status]} == {"421"}


async def _task_id(client: httpx.AsyncClient, operation: str) -> int:
    """A task that the operation can do its work with."""
    task_id: int = (await client.post("/tasks", json={"title": "water"})).json()["id"]
    if operation == "restore_task":
        await client.delete(f"/tasks/{task_id}")
    return task_id


async def _send(
    client: httpx.AsyncClient, operation: str, task_id: int, **options: Any
) -> httpx.Response:
    method, path = OPERATIONS[operation]
    url = path.format(task_id=task_id)
    return await client.request(method, url, **{"json": BODIES.get(operation)} | options)


def _as_documented(operation: str, response: httpx.Response) -> None:
    """Assert that the body and the headers are those of the status in the document."""
    documented = _resolved(documented_operation(operation)["responses"][str(response.status_code)])
    assert [
        name
        for name in documented["headers"]
        if name not in response.headers and name not in CONDITIONAL
    ] == []
    no_content = {"schema": {"const": None}}
    content = (
        documented["content"][response.headers["Content-Type"]]
        if "content" in documented
        else no_content
    )
    validator_of(content["schema"]).validate(response.json() if response.content else None)


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    return RESPONSES[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
