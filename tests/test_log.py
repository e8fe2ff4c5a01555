"""Request ids, and the log line of each request."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import httpx
import pytest

from api.app import create_app
from api.rate_limit.response_slots import RequestSlots, ResponseSlots
from api.request import RequestContext
from api.settings import Settings
from api.telemetry.request_log import MAX_REASON, RequestLog
from persistence import tasks
from persistence.errors import Unavailable
from persistence.viewer import Viewer
from rest import health
from tests.conftest import new_client, settings_of_tests
from tests.log_lines import LogLines
from tests.trips import TripCounter

SECRET = "a detail for the log only"


@pytest.fixture
def _defect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(tasks, "list_changed_page", fail)


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> LogLines:
    return LogLines(capfd)


# Request ids


@pytest.mark.parametrize("request_id", ["a", "A" * 128, "0af7651916cd43dd", "a.b_c-1", "."])
async def test_a_valid_request_id_is_kept(request_id: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-ID": request_id})

    assert response.headers.get_list("X-Request-ID") == [request_id]


@pytest.mark.parametrize(
    "values", [[""], ["A" * 129], ["a b"], ["a/b"], ["ä"], ["a\tb"], ["a\x1b[0m"], ["a", "b"]]
)
async def test_an_invalid_request_id_is_replaced(
    values: list[str], client: httpx.AsyncClient
) -> None:
    lines = [(b"X-Request-ID", value.encode("latin-1")) for value in values]
    response = await client.get("/health", headers=lines)

    [generated] = response.headers.get_list("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{32}", generated)


async def test_generated_request_ids_are_unique(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health")).headers["X-Request-ID"] for _ in range(20)}

    assert len(ids) == 20


# The line of a request


async def test_a_request_has_one_line(
    ada_client: httpx.AsyncClient, trips: TripCounter, log: LogLines
) -> None:
    task = (await ada_client.post("/tasks", json={"title": "water the plants"})).json()
    log.requests()

    response = await ada_client.get(
        f"/tasks/{task['id']}?", headers={"X-Request-ID": "the-request"}
    )

    [line] = log.requests()
    assert response.status_code == 200
    assert (
        line.items()
        >= {
            "level": "info",
            "event": "request",
            "method": "GET",
            "route": "/tasks/{task_id}",
            "status": 200,
            "request_id": "the-request",
            "database_trips": 1,
            "redis_trips": 0,
            "version": version("twofold"),
        }.items()
    )
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert line["ms"] >= line["database_ms"] >= 0
    assert line["waiting_ms"] >= 0
    assert line["instance"].endswith(f"/{os.getpid()}")
    assert re.fullmatch("[0-9a-f]{40}|unknown", line["commit"])
    assert "errors" not in line
    assert "client" not in line


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ("query Mine { tasks { totalCount } }", "Mine"),
        ("{ tasks { totalCount } node(id: 1) { id } }", "tasks,node"),
        ("query %s { tasks { totalCount } }" % ("a" * 5000), "a" * 100),
    ],
)
async def test_a_graphql_request_has_the_name_of_its_operation_or_its_fields(
    document: str, operation: str, ada_client: httpx.AsyncClient, log: LogLines
) -> None:
    await ada_client.post("/graphql", json={"query": document})

    [line] = log.requests()
    assert (line["route"], line["operation"]) == ("/graphql", operation)


async def test_a_user_is_a_hash_which_is_the_same_in_both_protocols_and_another_for_another(
    ada_client: httpx.AsyncClient, bob_client: httpx.AsyncClient, log: LogLines
) -> None:
    await ada_client.get("/tasks")
    await ada_client.post("/graphql", json={"query": "{ tasks { totalCount } }"})
    await bob_client.get("/tasks")

    ada, again, bob = (line["user"] for line in log.requests())
    assert ada == again != bob
    assert re.fullmatch("[0-9a-f]{16}", ada)
    assert hashlib.blake2b(b"ada", digest_size=8).hexdigest() != ada


@pytest.mark.parametrize(
    "secrets",
    [
        {"session_hash_secret": "another secret, of more than 32 characters"},
        {"session_store": "better-auth", "better_auth_secrets": "one"},
        {"session_store": "better-auth", "better_auth_secrets": "two"},
        {"session_store": "better-auth", "database_url": "postgresql://a:b@c/d"},
    ],
)
def test_the_hash_of_a_user_has_a_secret_key(
    secrets: dict[str, str], settings: Settings, log: LogLines
) -> None:
    url = settings.database_url.get_secret_value()  # type: ignore[union-attr]
    others = settings_of_tests(**{"database_url": url, "session_hash_secret": None} | secrets)

    assert user_in_log(others, log) != user_in_log(settings, log)
    assert user_in_log(others, log) == user_in_log(others, log)


def user_in_log(settings: Settings, log: LogLines) -> str:
    """Ada, in the log of an instance with these settings."""
    context = RequestContext("x", RequestSlots(ResponseSlots()))
    context.viewer = Viewer("ada", datetime.now(UTC))
    RequestLog(settings).write({"method": "GET"}, context, 0.0)
    [line] = log.requests()
    return str(line["user"])


async def test_the_address_of_a_client_is_in_the_log_only_if_a_setting_says_so(
    database_url: str, log: LogLines
) -> None:
    app = create_app(settings_of_tests(database_url=database_url, log_client_address=True))
    async with new_client(app) as client:
        await client.get("/health")

    assert log.requests()[-1]["client"] == "127.0.0.1"


async def test_a_path_without_a_route_is_not_in_the_log(
    client: httpx.AsyncClient, log: LogLines
) -> None:
    await client.get("/a-secret-in-a-path")
    await client.request("BREW", "/tasks")

    assert [(line["method"], line["route"]) for line in log.requests()] == [
        ("GET", ""),
        ("OTHER", ""),
    ]


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
async def test_without_info_only_failures_have_a_line(
    level: str, monkeypatch: pytest.MonkeyPatch, database_url: str, log: LogLines
) -> None:
    app = create_app(settings_of_tests(database_url=database_url, log_level=level))
    async with new_client(app) as client:
        await client.get("/health")
        await client.get("/nowhere")
        monkeypatch.setattr(health, "encode_json", None)
        await client.get("/health")

    assert [(line["level"], line["status"]) for line in log.requests()] == [("error", 500)]


@pytest.mark.usefixtures("_defect")
async def test_for_a_person_a_line_is_text_and_a_defect_has_its_traceback(
    database_url: str, ada_client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    app = create_app(settings_of_tests(database_url=database_url, log_format="human"))
    async with app.router.lifespan_context(app), new_client(app) as client:
        await client.get("/health", headers={"X-Request-ID": "the-request"})
        await client.get("/tasks", headers=ada_client.headers)

    healthy, failed, *traceback = capfd.readouterr().err.splitlines()
    assert re.search(r"Z \[info +\] GET /health 200 [0-9.]+ ms +request_id=the-request$", healthy)
    assert " [error    ] GET /tasks 500 " in failed
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == f"KeyError: {SECRET!r}"


# Failures


@pytest.mark.usefixtures("_defect")
async def test_an_unhandled_exception_is_in_the_line_and_not_described_to_the_client(
    ada_client: httpx.AsyncClient, log: LogLines
) -> None:
    response = await ada_client.get("/tasks", headers={"X-Request-ID": "the-defect"})

    [line] = log.all()
    assert (line["level"], line["request_id"]) == ("error", "the-defect")
    assert line["errors"] == ["internal_error"]
    assert line["exception"].startswith("builtins.KeyError\n")
    assert re.search(r"tests/test_log\.py:\d+ in fail$", line["exception"])
    assert SECRET not in response.text
    assert "KeyError" not in response.text


@pytest.mark.usefixtures("_defect")
async def test_the_message_of_an_exception_is_not_in_the_log(
    ada_client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    await ada_client.get("/tasks")
    await ada_client.post("/graphql", json={"query": "{ tasks { totalCount } }"})

    assert SECRET not in capfd.readouterr().err


async def test_the_reason_of_a_503_is_in_the_log_only(
    without_database: httpx.AsyncClient, log: LogLines
) -> None:
    headers = {"Authorization": "Bearer x", "X-Request-ID": "the-outage"}
    response = await without_database.get("/tasks", headers=headers)

    [line] = log.requests()
    assert (line["level"], line["status"], line["request_id"]) == ("error", 503, "the-outage")
    assert line["reason"].startswith("database: ")
    assert "database" not in response.text


async def test_many_failures_of_one_document_are_in_one_line(
    ada_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, log: LogLines
) -> None:
    async def fail(*arguments: object) -> None:
        raise Unavailable("x" * 5000 + "\n")

    monkeypatch.setattr(tasks, "list_changed_page", fail)
    fields = " ".join(f"a{number}: tasks {{ totalCount }}" for number in range(20))
    await ada_client.post("/graphql", json={"query": f"{{ {fields} }}"})

    [line] = log.all()
    assert (line["level"], line["status"], len(line["reason"])) == ("error", 200, MAX_REASON)


async def test_an_error_of_the_client_is_not_an_error_of_ours(
    ada_client: httpx.AsyncClient, log: LogLines
) -> None:
    await ada_client.post("/tasks", json={"title": ""})
    await ada_client.get("/tasks/999")
    await ada_client.get("/nowhere")

    assert [line["level"] for line in log.all()] == ["info"] * 3


@pytest.mark.parametrize(
    "path", ["/x%0Aunhandled exception request_id=y", "/x%0D%0Ay", "/%1B[31m", "/%E2%80%A8", "/%FF"]
)
async def test_a_request_cannot_break_a_line_of_the_log(
    path: str, client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    await client.get(path, headers={"X-Request-ID": "one\u2028two".encode()})

    [line] = capfd.readouterr().err.removesuffix("\n").split("\n")
    assert line.isascii()
    assert line.isprintable()


async def test_the_line_names_the_errors_of_both_protocols(
    ada_client: httpx.AsyncClient, client: httpx.AsyncClient, log: LogLines
) -> None:
    twice = "mutation { a: deleteTask(id: 999) { id } b: deleteTask(id: 998) { id } }"
    await ada_client.get("/tasks/999")
    await ada_client.post("/graphql", json={"query": twice})
    await ada_client.post("/graphql", json={"query": "{ nothing }"})
    await ada_client.post("/graphql", json={"query": "{"})
    await client.get("/tasks")
    await ada_client.get("/tasks")

    assert [(line["status"], line.get("errors", [])) for line in log.requests()] == [
        (404, ["not_found_error"]),
        (200, ["not_found_error"]),
        (200, ["graphql_validation_failed"]),
        (200, ["graphql_parse_failed"]),
        (401, ["authentication_error"]),
        (200, []),
    ]


async def test_no_token_is_in_the_log_or_in_a_response(
    ada_client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    token = ada_client.headers["Authorization"].removeprefix("Bearer ")
    responses = [
        await ada_client.get(f"/tasks?access_token={token}"),
        await ada_client.get(f"/health?token={token}"),
        await ada_client.post("/tasks", json={"title": "x", "token": token}),
        await ada_client.post("/tasks", json={"title": "x", "a": {"sessionToken": token}}),
    ]

    assert token not in capfd.readouterr().err
    assert [token in response.text for response in responses] == [False, False, False, False]
