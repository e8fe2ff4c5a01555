"""Request ids and the log: what is logged about a request, and what never is."""

from __future__ import annotations

import logging
import re

import httpx
import pytest

from persistence import tasks

SECRET = "a detail for the log only"


@pytest.fixture
def _defect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(tasks, "list_page", fail)


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


# The log


@pytest.mark.usefixtures("_defect")
async def test_an_unhandled_exception_is_logged_once_and_not_described_to_the_client(
    ada_client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await ada_client.get("/tasks", headers={"X-Request-ID": "the-defect"})

    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.levelname) == ("twofold.error", "ERROR")
    assert record.getMessage() == "GET /tasks unhandled exception request_id=the-defect"
    assert record.exc_info
    assert isinstance(record.exc_info[1], KeyError)
    assert SECRET not in response.text
    assert "KeyError" not in response.text


async def test_the_reason_of_a_503_is_in_the_log_only(
    without_database: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": "Bearer x", "X-Request-ID": "the-outage"}
    response = await without_database.get("/tasks", headers=headers)

    [line] = [message for message in caplog.messages if "the-outage" in message]
    assert line.startswith("GET /tasks unavailable: database: ")
    assert "database" not in response.text


async def test_an_error_of_the_client_is_not_logged_as_a_warning(
    ada_client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await ada_client.post("/tasks", json={"title": ""})
    await ada_client.get("/tasks/999")
    await ada_client.get("/nowhere")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "path", ["/x%0Aunhandled exception request_id=y", "/x%0D%0Ay", "/%1B[31m", "/%E2%80%A8", "/%FF"]
)
async def test_a_request_cannot_break_a_line_of_the_log(
    path: str, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "twofold.access"):
        await client.get(path, headers={"X-Request-ID": "one\u2028two".encode()})

    [line] = [record.getMessage() for record in caplog.records if record.name == "twofold.access"]
    assert line.isascii()
    assert line.isprintable()


async def test_the_access_log_names_the_errors_of_both_protocols(
    ada_client: httpx.AsyncClient, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    twice = "mutation { a: deleteTask(id: 999) { id } b: deleteTask(id: 998) { id } }"
    with caplog.at_level(logging.INFO, "twofold.access"):
        await ada_client.get("/tasks/999")
        await ada_client.post("/graphql", json={"query": twice})
        await ada_client.post("/graphql", json={"query": "{ nothing }"})
        await ada_client.post("/graphql", json={"query": "{"})
        await client.get("/tasks")
        await ada_client.get("/tasks")

    lines = [record.getMessage() for record in caplog.records if record.name == "twofold.access"]
    assert [(line.split()[2], line.partition(" error=")[2]) for line in lines] == [
        ("404", "not_found_error"),
        ("200", "not_found_error"),
        ("200", "graphql_validation_failed"),
        ("200", "graphql_parse_failed"),
        ("401", "authentication_error"),
        ("200", ""),
    ]


async def test_no_token_is_in_the_log_or_in_a_response(
    ada_client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    token = ada_client.headers["Authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG, "twofold"):
        responses = [
            await ada_client.get(f"/tasks?access_token={token}"),
            await ada_client.get(f"/health?token={token}"),
            await ada_client.post("/tasks", json={"title": "x", "token": token}),
            await ada_client.post("/tasks", json={"title": "x", "a": {"sessionToken": token}}),
        ]

    assert token not in caplog.text
    assert [token in response.text for response in responses] == [False, False, False, False]
