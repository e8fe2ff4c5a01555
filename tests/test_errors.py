"""The catalogue of errors: every type is provoked, and has the form that docs/errors.md shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

import api.http.body
from api.commands.errors_document import ADVICE, example, graphql_example, rest_example
from api.errors import (
    CATALOGUE,
    BodyTooLarge,
    MethodNotAllowed,
    NotReady,
    Unauthenticated,
    describe,
)
from persistence import tasks
from persistence.errors import FieldError, InvalidInput, NotFound, Unavailable, VersionConflict
from persistence.idempotency import KeyInFlight
from persistence.sessions.store import UnusableSessions
from tests import documented
from tests.streams import Stream

JSON = {"Content-Type": "application/json"}
ORIGIN = "http://localhost:3000"
SECRET = "a detail for the log only"

MEMBERS = ["type", "title", "status", "detail", "instance", "timestamp", "request_id"]

KEY = {"Idempotency-Key": "used"}
FURTHER_MEMBERS = {
    "idempotency_in_flight": ["retry_after"],
    "precondition_failed": ["version"],
    "validation_error": ["errors"],
    "rate_limit_exceeded": ["retry_after", "rate_limit_info"],
}


@pytest.fixture
def _defect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise KeyError(SECRET)

    async def fail_in_flight(*arguments: object) -> None:
        raise KeyInFlight

    monkeypatch.setattr(tasks, "list_changed_page", fail)
    monkeypatch.setattr(tasks, "remove_many", fail_in_flight)


# A request for each type, and the title, detail and headers of its response.
PROVOCATIONS: dict[str, tuple[dict[str, Any], str, str, dict[str, str]]] = {
    "validation_error": (
        {"method": "POST", "url": "/tasks", "json": {"title": " "}},
        "Request validation failed",
        "One or more validation errors occurred",
        {},
    ),
    "authentication_error": (
        {"method": "GET", "url": "/tasks", "headers": {"Authorization": "Bearer x"}},
        "Authentication failed",
        "Invalid or missing authentication credentials",
        {"WWW-Authenticate": "Bearer"},
    ),
    "not_found_error": (
        {"method": "GET", "url": "/tasks/999"},
        "Resource not found",
        "Task with ID 999 not found",
        {},
    ),
    "method_not_allowed": (
        {"method": "POST", "url": "/tasks/999"},
        "Method not allowed",
        "Allowed: DELETE, GET, HEAD, PATCH, PUT",
        {"Allow": "DELETE, GET, HEAD, PATCH, PUT"},
    ),
    "request_timeout": (
        {"method": "POST", "url": "/tasks", "content": Stream(1000, seconds=0.01), "headers": JSON},
        "Request body took too long",
        "It did not arrive within 0 seconds",
        {"Connection": "close"},
    ),
    "idempotency_in_flight": (
        {"method": "POST", "url": "/tasks/bulk-delete", "json": {"task_ids": [1]}},
        "Request with this idempotency key is still running",
        "Repeat the request after the time in Retry-After to get the response of the first one.",
        {"Retry-After": "1"},
    ),
    "sync_token_expired": (
        {"method": "GET", "url": f"/tasks/changes?since={'A' * 43}"},
        "Sync token expired",
        "What changed since then is not known any more. Forget all tasks, and ask again without a"
        " token.",
        {},
    ),
    "idempotency_mismatch": (
        {"method": "POST", "url": "/tasks", "json": {"title": "b"}, "headers": KEY},
        "Idempotency key used for another request",
        "A repeat has to be the same request. A new request needs a key of its own.",
        {},
    ),
    "precondition_failed": (
        {"method": "DELETE", "url": "/tasks/{id}", "headers": {"If-Match": '"7"'}},
        "Task changed since you read it",
        "The task is at version 1",
        {"ETag": '"1"'},
    ),
    "payload_too_large": (
        {"method": "POST", "url": "/tasks", "content": b"x" * 65_537, "headers": JSON},
        "Request body too large",
        "A request body may have at most 65536 bytes",
        {"Connection": "close"},
    ),
    "unsupported_media_type": (
        {"method": "POST", "url": "/tasks", "content": b"title=water"},
        "Unsupported media type",
        "The request body must be application/json",
        {},
    ),
    "misdirected_request": (
        {"method": "GET", "url": "/tasks", "headers": {"Host": "evil.example"}},
        "Unknown host",
        "This server does not answer for the host that the request names. Its setting ALLOWED_HOSTS"
        " lists further hosts.",
        {},
    ),
    "internal_error": (
        {"method": "GET", "url": "/tasks"},
        "Internal server error",
        "Something went wrong on our side. The request id leads to it in our log.",
        {},
    ),
    "rate_limit_exceeded": (
        {"method": "GET", "url": "/tasks"},
        "Rate limit exceeded",
        "Too many requests. Retry after 60 seconds.",
        {"Retry-After": "60"},
    ),
    "service_unavailable": (
        {"method": "GET", "url": "/tasks", "headers": {"Authorization": "Bearer x"}},
        "Service unavailable",
        "The service cannot answer at the moment. Try again in a few seconds.",
        {"Retry-After": "2"},
    ),
}

# The second answers a handshake of a WebSocket; see tests/test_graphql_ws.py.
GRAPHQL_ONLY = {"not_acceptable", "authorization_error"}
STATUS = {problem_type.name: problem_type.status for problem_type in CATALOGUE.values()}


@pytest.fixture
async def provoke(
    ada_client: httpx.AsyncClient,
    without_database: httpx.AsyncClient,
    spent_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    _defect: None,
) -> Callable[..., Any]:
    """Sends the request that provokes a type of the catalogue, with further headers."""
    task = (await ada_client.post("/tasks", json={"title": "water"}, headers=KEY)).json()
    clients = {"service_unavailable": without_database, "rate_limit_exceeded": spent_client}
    monkeypatch.setattr(api.http.body, "BODY_SECONDS", 0.01)

    async def send(error_type: str, **headers: str) -> httpx.Response:
        request = {"headers": {}, **PROVOCATIONS[error_type][0]}
        url = request.pop("url").format(id=task["id"])
        client = clients.get(error_type, ada_client)
        return await client.request(url=url, **request | {"headers": request["headers"] | headers})

    return send


def test_every_type_of_the_catalogue_is_provoked() -> None:
    assert set(PROVOCATIONS) == set(STATUS) - GRAPHQL_ONLY


@pytest.mark.parametrize("error_type", PROVOCATIONS)
async def test_an_error_has_the_status_members_and_headers_of_its_type(
    error_type: str, provoke: Callable[..., Any]
) -> None:
    response = await provoke(error_type)

    _, title, detail, headers = PROVOCATIONS[error_type]
    problem = response.json()
    assert response.status_code == problem["status"] == STATUS[error_type]
    assert list(problem) == MEMBERS + FURTHER_MEMBERS.get(error_type, [])
    assert (problem["type"], problem["title"], problem["detail"]) == (error_type, title, detail)
    assert problem["instance"] == response.request.url.path
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", problem["timestamp"])
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert headers.items() <= _in_original_case(response).items()


def test_every_type_has_advice_and_there_is_no_other_advice() -> None:
    assert set(ADVICE) == set(STATUS)


@pytest.mark.parametrize("error_type", PROVOCATIONS)
async def test_the_documented_example_has_the_form_of_a_live_error(
    error_type: str, provoke: Callable[..., Any]
) -> None:
    problem = (await provoke(error_type)).json()
    documented = rest_example(example(error_type))

    assert _form(documented) == _form(problem)


GRAPHQL_PROVOCATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "validation_error": ('mutation { createTask(input: {title: " "}) { id } }', {}),
    "authentication_error": ("{ viewer { id } }", {"Authorization": "Bearer x"}),
    "not_found_error": ('mutation { updateTask(id: "999", input: {}) { id } }', {}),
    "not_acceptable": ("{ viewer { id } }", {"Accept": "text/html"}),
    "misdirected_request": ("{ viewer { id } }", {"Host": "evil.example"}),
    "precondition_failed": ('mutation { deleteTask(id: "%s", expectedVersion: 7) { id } }', {}),
    "payload_too_large": ("#" * 65_537, {}),
    "unsupported_media_type": ("{ viewer { id } }", {"Content-Type": "text/plain"}),
    "idempotency_mismatch": (
        'mutation { createTask(input: {title: "b"}, idempotencyKey: "used") { id } }',
        {},
    ),
    "internal_error": ("{ tasks { nodes { id } } }", {}),
    "rate_limit_exceeded": ("{ viewer { id } }", {}),
    "service_unavailable": ("{ viewer { id } }", {"Authorization": "Bearer x"}),
}


@pytest.mark.usefixtures("_defect")
@pytest.mark.parametrize("error_type", GRAPHQL_PROVOCATIONS)
async def test_the_documented_example_has_the_form_of_a_live_error_of_graphql(
    error_type: str,
    ada_client: httpx.AsyncClient,
    without_database: httpx.AsyncClient,
    spent_client: httpx.AsyncClient,
) -> None:
    clients = {"service_unavailable": without_database, "rate_limit_exceeded": spent_client}
    created = await ada_client.post("/tasks", json={"title": "water"}, headers=KEY)
    query, headers = GRAPHQL_PROVOCATIONS[error_type]

    response = await clients.get(error_type, ada_client).post(
        "/graphql",
        json={"query": query.replace("%s", str(created.json()["id"]))},
        headers=headers,
    )

    [error] = response.json()["errors"]
    documented = graphql_example(example(error_type))
    assert _form({**error, "locations": None, "path": None}) == _form(
        {**documented, "locations": None, "path": None}
    )


def _form(document: dict[str, Any]) -> dict[str, Any]:
    """The members of an error in their order, and what is the same in every error of its type."""
    fixed = ("type", "title", "status", "code")
    return {
        name: _form(value)
        if isinstance(value, dict)
        else value
        if name in fixed
        else type(value).__name__
        for name, value in sorted(document.items())
    }


def _in_original_case(response: httpx.Response) -> dict[str, str]:
    names = ("Allow", "Connection", "ETag", "Retry-After", "WWW-Authenticate")
    return {name: response.headers[name] for name in names if name in response.headers}


@pytest.mark.parametrize("error_type", PROVOCATIONS)
async def test_every_error_has_cors_headers(error_type: str, provoke: Callable[..., Any]) -> None:
    response = await provoke(error_type, Origin=ORIGIN)

    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert {"Accept", "Origin"} <= set(response.headers["Vary"].split(", "))


@pytest.mark.parametrize("error_type", PROVOCATIONS)
async def test_every_error_has_the_clients_request_id(
    error_type: str, provoke: Callable[..., Any]
) -> None:
    response = await provoke(error_type, **{"X-Request-ID": "from-the-client"})

    assert response.headers["X-Request-ID"] == "from-the-client"
    assert response.json()["request_id"] == "from-the-client"


@pytest.mark.parametrize("error_type", PROVOCATIONS)
async def test_no_error_may_be_stored(error_type: str, provoke: Callable[..., Any]) -> None:
    response = await provoke(error_type)

    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


# Authentication

PUBLIC = {"health", "ready", "head_health", "head_ready"}


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer x", "Basic x", "Bearer a b"])
@pytest.mark.parametrize("operation", sorted(documented.OPERATIONS.keys() - PUBLIC))
async def test_every_operation_without_a_valid_session_is_401(
    operation: str, token: str | None, client: httpx.AsyncClient
) -> None:
    method, path = documented.OPERATIONS[operation]
    headers = {} if token is None else {"Authorization": token}

    response = await client.request(method, path.format(task_id=1), headers=headers)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", sorted(PUBLIC))
async def test_health_needs_no_authentication(operation: str, client: httpx.AsyncClient) -> None:
    method, path = documented.OPERATIONS[operation]

    assert (await client.request(method, path)).status_code == 200


def test_every_route_is_in_the_openapi_document(app: FastAPI) -> None:
    undocumented = {"/", "/docs", "/openapi.json", "/tasks/events"}
    paths = {re.sub(r":\w+}", "}", getattr(route, "path", "")) for route in app.routes}

    assert {path for path in paths if not path.startswith(("/docs/", "/graphql"))} == (
        {path for _, path in documented.OPERATIONS.values()} | undocumented
    )


# Media type


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("text/html", "application/problem+json"),
        ("application/*", "application/problem+json"),
        ("application/problem+json", "application/problem+json"),
        ("application/json", "application/json"),
        ("Application/JSON", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html, application/json;q=0.1", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("application/problem+json;q=0.1, application/json", "application/problem+json"),
        ("application/problem+json;q=0, application/json", "application/json"),
        ("application/json;q=0", "application/problem+json"),
        ("application/json; q=0.000, */*", "application/problem+json"),
        ("application/jsonx", "application/problem+json"),
        ("\xff,;;,", "application/problem+json"),
    ],
)
async def test_the_media_type_of_an_error_follows_accept(
    accept: str | None, media_type: str, client: httpx.AsyncClient
) -> None:
    client_headers = {} if accept is None else {"Accept": accept.encode("latin-1")}
    request = client.build_request("GET", "/nowhere", headers=client_headers)
    if accept is None:
        del request.headers["Accept"]

    response = await client.send(request)

    assert response.headers["Content-Type"] == media_type
    assert "Accept" in response.headers["Vary"]


async def test_several_accept_headers_are_one_list(client: httpx.AsyncClient) -> None:
    lines = [("Accept", "text/html"), ("Accept", "application/json")]
    request = client.build_request("GET", "/nowhere")
    del request.headers["Accept"]
    request.headers = httpx.Headers([*request.headers.multi_items(), *lines])

    assert (await client.send(request)).headers["Content-Type"] == "application/json"


# The errors of a field


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ({"title": 7}, 7),
        ({"title": True}, True),
        ({"title": None}, None),
        ({"title": ["a", {"b": None}]}, ["a", {"b": None}]),
        ({"title": "x" * 201}, "x" * 200),
        ({"title": "🪴" * 5000}, "🪴" * 200),
        ({"title": "\x00"}, "\x00"),
        ({"title": ["x" * 300]}, '["' + "x" * 198),
        ({"title": {"a": [1] * 300}}, '{"a":[' + "1," * 97),
        ({"title": 2**63}, 2**63),
    ],
)
async def test_the_rejected_value_is_repeated_and_cut_at_200_characters(
    body: dict[str, Any], value: object, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/tasks", json=body)

    [error] = response.json()["errors"]
    assert error["field"] == "title"
    assert error["value"] == value


async def test_the_name_of_a_member_is_cut_at_200_characters(ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.post("/tasks", json={"title": "x", "y" * 5000: 1})

    assert [error["field"] for error in response.json()["errors"]] == ["y" * 200]


@pytest.mark.parametrize(
    "request_options",
    [
        {"method": "POST", "url": "/tasks", "json": {str(n): n for n in range(5000)}},
        {"method": "GET", "url": "/tasks?" + "&".join(f"p{n}=1" for n in range(5000))},
        {"method": "POST", "url": "/tasks/bulk-delete", "json": {"task_ids": ["x"] * 1000}},
    ],
    ids=["members", "parameters", "ids"],
)
async def test_at_most_a_hundred_errors_are_reported(
    request_options: dict[str, Any], ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.request(**request_options)

    assert (response.status_code, len(response.json()["errors"])) == (400, 100)


# describe()


@pytest.mark.parametrize(
    ("error", "error_type", "detail"),
    [
        (InvalidInput([]), "validation_error", "One or more validation errors occurred"),
        (Unauthenticated(), "authentication_error", None),
        (NotFound("Task", 7), "not_found_error", "Task with ID 7 not found"),
        (HTTPException(404), "not_found_error", "There is nothing at this path"),
        (MethodNotAllowed(["GET", "PUT"]), "method_not_allowed", "Allowed: GET, PUT"),
        (VersionConflict("Task", 3), "precondition_failed", "The task is at version 3"),
        (
            VersionConflict("Shared list", 3),
            "precondition_failed",
            "The shared list is at version 3",
        ),
        (BodyTooLarge("why"), "payload_too_large", "why"),
        (BodyTooLarge(), "payload_too_large", "Request body too large"),
        (NotReady("schema", "why"), "service_unavailable", "Not ready: schema: why"),
        (Unavailable(SECRET), "service_unavailable", None),
        (UnusableSessions(SECRET), "service_unavailable", None),
        (HTTPException(418, SECRET), "internal_error", None),
        (RuntimeError(SECRET), "internal_error", None),
        (TimeoutError(SECRET), "internal_error", None),
        (
            type("Subclass", (NotFound,), {})("Task", 7),
            "not_found_error",
            "Task with ID 7 not found",
        ),
    ],
    ids=repr,
)
def test_every_exception_is_described(
    error: Exception, error_type: str, detail: str | None
) -> None:
    problem = describe(error)

    assert (problem.type.name, problem.code) == (error_type, error_type.upper())
    assert problem.detail == (detail or problem.type.detail)
    assert SECRET not in problem.detail
    assert problem.is_internal == (error_type == "internal_error")


def test_the_description_has_the_errors_and_the_failing_part() -> None:
    error = FieldError("title", "too short", "string_too_short", "")

    assert describe(InvalidInput([error])).errors == (error,)
    assert describe(NotReady("schema", "why")).extra == {"failing": "schema"}
