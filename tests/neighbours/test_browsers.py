"""Libraries in browsers and apps: headers that they add, origins that they send."""

from __future__ import annotations

import logging

import httpx
import pytest

from api.app import create_app
from api.http.cors import MAX_LOGGED
from tests.conftest import new_client, settings_of_tests

APPS = [
    "capacitor://localhost",
    "tauri://localhost",
    "ionic://localhost",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
    "https://app.example.com",
]


def preflight(origin: str, method: str = "POST", headers: str | None = None) -> dict[str, str]:
    """The headers of a preflight."""
    asked_for = {} if headers is None else {"Access-Control-Request-Headers": headers}
    return {"Origin": origin, "Access-Control-Request-Method": method} | asked_for


@pytest.mark.parametrize(
    "headers",
    [
        "authorization,content-type,if-match,if-none-match,x-request-id",
        "baggage,sentry-trace,traceparent,tracestate",
        "apollographql-client-name, apollographql-client-version, graphql-preflight",
        "X-Requested-With",
        "x-datadog-trace-id,x-b3-traceid,newrelic",
        "idempotency-key",
        "!#$%&'*+.^_`|~-",
    ],
)
@pytest.mark.parametrize("path", ["/tasks", "/graphql", "/nowhere"])
async def test_a_library_may_add_headers(
    path: str, headers: str, client: httpx.AsyncClient
) -> None:
    response = await client.options(
        path, headers=preflight("http://localhost:5173", "PATCH", headers)
    )

    allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
    assert response.status_code == 204
    assert allowed == [name.strip() for name in headers.split(",")]
    assert "Access-Control-Request-Headers" in response.headers["Vary"]


async def test_what_is_no_header_name_is_not_repeated(client: httpx.AsyncClient) -> None:
    requested = 'authorization, "x", x y, <b>, ' + "a" * 101 + ",,é"

    response = await client.options(
        "/tasks",
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": requested.encode("latin-1"),
        },
    )

    assert response.headers["Access-Control-Allow-Headers"] == "authorization"


@pytest.mark.parametrize(
    "headers",
    [
        preflight("https://evil.example", headers="authorization"),
        preflight("http://localhost:3000", "TRACE"),
        preflight("http://localhost:3000", "nonsense", "x-anything"),
        preflight("null"),
    ],
)
async def test_a_browser_reports_what_is_not_allowed_because_the_status_is_none(
    headers: dict[str, str], client: httpx.AsyncClient
) -> None:
    response = await client.options("/tasks", headers=headers)

    allowed = response.headers["Access-Control-Allow-Methods"].split(", ")
    is_origin_allowed = "Access-Control-Allow-Origin" in response.headers
    assert (response.status_code, response.content) == (204, b"")
    assert not is_origin_allowed or headers["Access-Control-Request-Method"] not in allowed


@pytest.mark.parametrize("port", ["", ":80", ":3000", ":5173", ":8081", ":65535"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_a_development_server_on_any_port_may_call(
    host: str, port: str, client: httpx.AsyncClient
) -> None:
    origin = f"http://{host}{port}"

    response = await client.get("/tasks", headers={"Origin": origin})

    assert response.headers["Access-Control-Allow-Origin"] == origin


async def test_apps_may_call_in_production() -> None:
    settings = settings_of_tests(
        environment="production",
        database_url="postgresql://twofold@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1",
        cors_origins=APPS,
    )
    async with new_client(create_app(settings)) as client:
        responses = [await client.options("/tasks", headers=preflight(origin)) for origin in APPS]
        local = await client.options("/tasks", headers=preflight("http://localhost:3000"))

    assert [response.headers["Access-Control-Allow-Origin"] for response in responses] == APPS
    assert "Access-Control-Allow-Origin" not in local.headers


async def test_the_log_names_a_refused_origin_once_and_the_setting_that_allows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(settings_of_tests(database_url="postgresql://twofold@127.0.0.1:1/none"))
    with caplog.at_level(logging.WARNING, "twofold"):
        async with new_client(app) as client:
            for _ in range(2):
                await client.options("/tasks", headers=preflight("https://a.example"))
                await client.get("/nowhere", headers={"Origin": "https://a.example"})
            lines = len(caplog.messages)
            for number in range(2 * MAX_LOGGED):
                await client.get("/nowhere", headers={"Origin": f"https://{number}.example"})

    assert lines == 1
    assert "'https://a.example'" in caplog.messages[0]
    assert "CORS_ORIGINS" in caplog.messages[0]
    assert len(caplog.messages) == MAX_LOGGED
