"""The catalogue of errors: every line of it reached, and told the same way everywhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

import api.http.body
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
from persistence.sessions.layouts import UnusableSessions
from tests import documented
from tests.streams import Stream

JSON = {"Content-Type": "application/json"}
ORIGIN = "http://localhost:3000"
SECRET = "a detail that only the log may tell"

PROBLEM = ["type", "title", "status", "detail", "instance", "timestamp", "request_id"]


MORE = {
    "validation_error": ["errors"],
    "rate_limit_exceeded": ["retry_after", "rate_limit_info"],
}


@pytest.fixture
def _a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(tasks, "list_page", fail)


# How each line is reached: what is sent, what is answered besides the status, and the headers.
REACHED: dict[str, tuple[dict[str, Any], str, str, dict[str, str]]] = {
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
    "precondition_failed": (
        {"method": "DELETE", "url": "/tasks/{id}", "headers": {"If-Match": '"7"'}},
        "Task changed since you read it",
        "The task is at version 1",
        {},
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
        "This server does not answer for the host that the request names",
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

GRAPHQL_ONLY = {"not_acceptable"}
STATUS = {problem_type.name: problem_type.status for problem_type in CATALOGUE.values()}


@pytest.fixture
async def reach(
    adas: httpx.AsyncClient,
    without_database: httpx.AsyncClient,
    penniless: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    _a_defect: None,
) -> Callable[..., Any]:
    """Sends what leads to a line of the catalogue, with these headers besides."""
    task = (await adas.post("/tasks", json={"title": "water"})).json()
    elsewhere = {"service_unavailable": without_database, "rate_limit_exceeded": penniless}
    monkeypatch.setattr(api.http.body, "BODY_SECONDS", 0.01)

    async def send(error_type: str, **headers: str) -> httpx.Response:
        sent = {"headers": {}, **REACHED[error_type][0]}
        url = sent.pop("url").format(id=task["id"])
        client = elsewhere.get(error_type, adas)
        return await client.request(url=url, **sent | {"headers": sent["headers"] | headers})

    return send


def test_every_line_of_the_catalogue_is_reached() -> None:
    assert set(REACHED) == set(STATUS) - GRAPHQL_ONLY


@pytest.mark.parametrize("error_type", REACHED)
async def test_an_error_has_its_status_its_members_and_its_headers(
    error_type: str, reach: Callable[..., Any]
) -> None:
    response = await reach(error_type)

    _, title, detail, headers = REACHED[error_type]
    problem = response.json()
    assert response.status_code == problem["status"] == STATUS[error_type]
    assert list(problem) == PROBLEM + MORE.get(error_type, [])
    assert (problem["type"], problem["title"], problem["detail"]) == (error_type, title, detail)
    assert problem["instance"] == response.request.url.path
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", problem["timestamp"])
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert headers.items() <= _in_original_case(response).items()


def _in_original_case(response: httpx.Response) -> dict[str, str]:
    names = ("Allow", "Connection", "Retry-After", "WWW-Authenticate")
    return {name: response.headers[name] for name in names if name in response.headers}


@pytest.mark.parametrize("error_type", REACHED)
async def test_a_browser_may_read_every_error(error_type: str, reach: Callable[..., Any]) -> None:
    response = await reach(error_type, Origin=ORIGIN)

    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert {"Accept", "Origin"} <= set(response.headers["Vary"].split(", "))


@pytest.mark.parametrize("error_type", REACHED)
async def test_every_error_goes_by_the_clients_request_id(
    error_type: str, reach: Callable[..., Any]
) -> None:
    response = await reach(error_type, **{"X-Request-ID": "from-the-client"})

    assert response.headers["X-Request-ID"] == "from-the-client"
    assert response.json()["request_id"] == "from-the-client"


@pytest.mark.parametrize("error_type", REACHED)
async def test_no_error_may_be_kept(error_type: str, reach: Callable[..., Any]) -> None:
    response = await reach(error_type)

    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


# Strangers

PUBLIC = {"health", "ready"}


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer x", "Basic x", "Bearer a b"])
@pytest.mark.parametrize("operation", sorted(documented.OPERATIONS.keys() - PUBLIC))
async def test_a_stranger_is_turned_away_from_every_operation(
    operation: str, token: str | None, client: httpx.AsyncClient
) -> None:
    method, path = documented.OPERATIONS[operation]
    headers = {} if token is None else {"Authorization": token}

    response = await client.request(method, path.format(task_id=1), headers=headers)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", sorted(PUBLIC))
async def test_health_is_for_everyone(operation: str, client: httpx.AsyncClient) -> None:
    method, path = documented.OPERATIONS[operation]

    assert (await client.request(method, path)).status_code == 200


def test_no_route_is_left_out_of_the_document(app: FastAPI) -> None:
    undocumented = {"/docs", "/openapi.json"}
    paths = {re.sub(r":\w+}", "}", getattr(route, "path", "")) for route in app.routes}

    assert {path for path in paths if not path.startswith(("/docs/", "/graphql"))} == (
        {path for _, path in documented.OPERATIONS.values()} | undocumented
    )


# Which media type


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
async def test_an_error_comes_in_the_media_type_asked_for(
    accept: str | None, media_type: str, client: httpx.AsyncClient
) -> None:
    client_headers = {} if accept is None else {"Accept": accept.encode("latin-1")}
    request = client.build_request("GET", "/nowhere", headers=client_headers)
    if accept is None:
        del request.headers["Accept"]

    response = await client.send(request)

    assert response.headers["Content-Type"] == media_type
    assert "Accept" in response.headers["Vary"]


async def test_accept_on_several_lines_is_one_list(client: httpx.AsyncClient) -> None:
    lines = [("Accept", "text/html"), ("Accept", "application/json")]
    request = client.build_request("GET", "/nowhere")
    del request.headers["Accept"]
    request.headers = httpx.Headers([*request.headers.multi_items(), *lines])

    assert (await client.send(request)).headers["Content-Type"] == "application/json"


# Request ids


@pytest.mark.parametrize("sent", ["a", "A" * 128, "0af7651916cd43dd", "a.b_c-1", "."])
async def test_a_good_request_id_is_kept(sent: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-ID": sent})

    assert response.headers.get_list("X-Request-ID") == [sent]


@pytest.mark.parametrize(
    "sent", [[""], ["A" * 129], ["a b"], ["a/b"], ["ä"], ["a\tb"], ["a\x1b[0m"], ["a", "b"]]
)
async def test_any_other_is_replaced(sent: list[str], client: httpx.AsyncClient) -> None:
    lines = [(b"X-Request-ID", value.encode("latin-1")) for value in sent]
    response = await client.get("/health", headers=lines)

    [made] = response.headers.get_list("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{32}", made)


async def test_no_two_requests_are_given_the_same_id(client: httpx.AsyncClient) -> None:
    given = {(await client.get("/health")).headers["X-Request-ID"] for _ in range(20)}

    assert len(given) == 20


# The log


@pytest.mark.usefixtures("_a_defect")
async def test_an_unhandled_exception_is_logged_once_and_answered_opaquely(
    adas: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await adas.get("/tasks", headers={"X-Request-ID": "the-defect"})

    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.levelname) == ("twofold.error", "ERROR")
    assert record.getMessage() == "GET /tasks unhandled exception request_id=the-defect"
    assert record.exc_info
    assert isinstance(record.exc_info[1], KeyError)
    assert SECRET not in response.text
    assert "KeyError" not in response.text


async def test_why_the_service_was_unavailable_is_in_the_log_alone(
    without_database: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": "Bearer x", "X-Request-ID": "the-outage"}
    response = await without_database.get("/tasks", headers=headers)

    [line] = [message for message in caplog.messages if "the-outage" in message]
    assert line.startswith("GET /tasks unavailable: database: ")
    assert "database" not in response.text


async def test_what_a_client_did_wrong_is_no_news(
    adas: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await adas.post("/tasks", json={"title": ""})
    await adas.get("/tasks/999")
    await adas.get("/nowhere")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "path", ["/x%0Aunhandled exception request_id=y", "/x%0D%0Ay", "/%1B[31m", "/%E2%80%A8", "/%FF"]
)
async def test_nobody_writes_lines_into_the_log(
    path: str, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "twofold.access"):
        await client.get(path, headers={"X-Request-ID": "one\u2028two".encode()})

    [line] = [record.getMessage() for record in caplog.records if record.name == "twofold.access"]
    assert line.isascii()
    assert line.isprintable()


async def test_the_access_log_names_the_errors_of_either_door(
    adas: httpx.AsyncClient, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    twice = "mutation { a: deleteTask(id: 999) { id } b: deleteTask(id: 998) { id } }"
    with caplog.at_level(logging.INFO, "twofold.access"):
        await adas.get("/tasks/999")
        await adas.post("/graphql", json={"query": twice})
        await adas.post("/graphql", json={"query": "{ nothing }"})
        await adas.post("/graphql", json={"query": "{"})
        await client.get("/tasks")
        await adas.get("/tasks")

    lines = [record.getMessage() for record in caplog.records if record.name == "twofold.access"]
    assert [(line.split()[2], line.partition(" error=")[2]) for line in lines] == [
        ("404", "not_found_error"),
        ("200", "not_found_error"),
        ("200", "graphql_validation_failed"),
        ("200", "graphql_parse_failed"),
        ("401", "authentication_error"),
        ("200", ""),
    ]


async def test_no_token_is_in_the_log_or_in_an_answer(
    adas: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    token = adas.headers["Authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG, "twofold"):
        responses = [
            await adas.get(f"/tasks?access_token={token}"),
            await adas.get(f"/health?token={token}"),
            await adas.post("/tasks", json={"title": "x", "token": token}),
            await adas.post("/tasks", json={"title": "x", "a": {"sessionToken": token}}),
        ]

    assert token not in caplog.text
    assert [token in response.text for response in responses] == [False, False, False, False]


# What an error says about a field


@pytest.mark.parametrize(
    ("sent", "told"),
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
async def test_the_offending_input_is_repeated_and_cut_at_200(
    sent: dict[str, Any], told: object, adas: httpx.AsyncClient
) -> None:
    response = await adas.post("/tasks", json=sent)

    [error] = response.json()["errors"]
    assert error["field"] == "title"
    assert error["value"] == told


async def test_a_members_name_is_cut_as_well(adas: httpx.AsyncClient) -> None:
    response = await adas.post("/tasks", json={"title": "x", "y" * 5000: 1})

    assert [error["field"] for error in response.json()["errors"]] == ["y" * 200]


@pytest.mark.parametrize(
    "request_of",
    [
        {"method": "POST", "url": "/tasks", "json": {str(n): n for n in range(5000)}},
        {"method": "GET", "url": "/tasks?" + "&".join(f"p{n}=1" for n in range(5000))},
        {"method": "POST", "url": "/tasks/bulk-delete", "json": {"task_ids": ["x"] * 1000}},
    ],
    ids=["members", "parameters", "ids"],
)
async def test_a_hundred_errors_are_enough(
    request_of: dict[str, Any], adas: httpx.AsyncClient
) -> None:
    response = await adas.request(**request_of)

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
        (type("Odder", (NotFound,), {})("Task", 7), "not_found_error", "Task with ID 7 not found"),
    ],
    ids=repr,
)
def test_any_exception_is_described(error: Exception, error_type: str, detail: str | None) -> None:
    problem = describe(error)

    assert (problem.type.name, problem.code) == (error_type, error_type.upper())
    assert problem.detail == (detail or problem.type.detail)
    assert SECRET not in problem.detail
    assert problem.is_internal == (error_type == "internal_error")


def test_the_errors_of_a_field_are_passed_on() -> None:
    error = FieldError("title", "too short", "string_too_short", "")

    assert describe(InvalidInput([error])).errors == (error,)
    assert describe(NotReady("schema", "why")).extra == {"failing": "schema"}
