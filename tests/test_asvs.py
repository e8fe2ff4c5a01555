"""What chapter V4 of OWASP ASVS 5.0 requires and no other test holds; SECURITY.md has all of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from api.app import create_app
from tests.conftest import ROOT, new_client, settings_of_tests
from tests.documented import OPERATIONS
from tests.servers import served

HTML = {"Accept": "text/html"}
PATHS = sorted({path.format(task_id=1) for _, path in OPERATIONS.values()})


@pytest.fixture
async def production(
    ada_client: httpx.AsyncClient, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with Ada's token, of an app as in production."""
    app = create_app(
        settings_of_tests(
            database_url=database_url,
            environment="production",
            cors_origins=["https://app.example"],
            redis_url="redis://127.0.0.1:1",
        )
    )
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        yield client


@pytest.mark.parametrize(
    ("path", "headers", "media_type", "beginning"),
    [
        ("/tasks", {}, "application/json", b"["),
        ("/tasks/x", {}, "application/problem+json", b"{"),
        ("/health", {}, "application/json", b"{"),
        ("/openapi.json", {}, "application/json", b"{"),
        ("/graphql?query={viewer{id}}", {}, "application/json; charset=utf-8", b"{"),
        ("/", HTML, "text/html; charset=utf-8", b"<!doctype html>"),
        ("/docs", HTML, "text/html; charset=utf-8", b"<!doctype html>"),
        ("/graphql", HTML, "text/html; charset=utf-8", b"<!doctype html>"),
        ("/docs/swagger-ui.css", {}, "text/css; charset=utf-8", b""),
        ("/docs/init.js", {}, "text/javascript; charset=utf-8", b""),
    ],
)
async def test_the_content_type_is_that_of_the_content_and_names_the_charset_of_text(
    path: str,
    headers: dict[str, str],
    media_type: str,
    beginning: bytes,
    ada_client: httpx.AsyncClient,
) -> None:
    response = await ada_client.get(path, headers=headers | {"Accept-Encoding": "identity"})

    assert response.headers["Content-Type"] == media_type
    assert response.content[:15].lower().startswith(beginning)
    assert len(response.content) == int(response.headers["Content-Length"])


@pytest.mark.parametrize("path", [*PATHS, "/", "/docs", "/graphql", "/tasks/", "/docs/"])
async def test_nothing_redirects_in_production_also_not_from_http(
    path: str, production: httpx.AsyncClient
) -> None:
    response = await production.get(path, headers={"X-Forwarded-Proto": "http"} | HTML)

    assert response.status_code // 100 != 3
    assert "Location" not in response.headers


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "QUERY", "FOO"])
@pytest.mark.parametrize("path", [*PATHS, "/graphql"])
async def test_a_method_that_is_not_of_the_path_is_405(
    path: str, method: str, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.request(method, path)

    allowed = set(response.headers["Allow"].split(", "))
    assert response.status_code == 405
    assert allowed <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    assert method not in allowed


async def test_a_body_with_a_length_and_chunks_never_hides_a_request(database_url: str) -> None:
    hidden = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    request = (
        b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(hidden) + 5)
    )
    async with served(database_url) as (client, _):
        port = client.base_url.port or 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request + hidden)
        responses = await reader.read()
        writer.close()

    # Refused, and the connection closed: neither length is believed.
    assert responses.startswith(b"HTTP/1.1 400 ")
    assert responses.count(b"HTTP/1.1 ") == 1


async def test_production_tells_nothing_of_the_schema(production: httpx.AsyncClient) -> None:
    introspection = await production.post(
        "/graphql", json={"query": "{ __schema { types { name } } }"}
    )
    misspelt = await production.post("/graphql", json={"query": "{ taskz { nodes { id } } }"})

    assert introspection.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "data" not in introspection.json()
    assert "tasks" not in misspelt.text


def test_every_requirement_of_the_chapter_has_its_test_or_the_reason_why_not() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (4\.\d\.\d) \| [^|]* \| (.*) \|$", text, re.MULTILINE))

    sizes = {1: 5, 2: 5, 3: 2, 4: 4}
    assert list(rows) == [f"4.{part}.{n + 1}" for part, size in sizes.items() for n in range(size)]
    assert all("`test_" in row or "Not applicable" in row for row in rows.values())
