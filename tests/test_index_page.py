"""``GET /``: links for programs, and in development a page for people."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import create_app
from api.commands.dev import pages, welcome_message
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.people import sign_in
from tests.surfaces import RestSurface

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PRODUCTION = {
    "environment": "production",
    "cors_origins": ["https://app.example.com"],
    "redis_url": "redis://127.0.0.1:1",
    "demo_token": "demo_0123456789",
}


@asynccontextmanager
async def client_of(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with these settings, which has no database."""
    nowhere = "postgresql://ada:secret@127.0.0.1:1/none"
    app = create_app(settings_of_tests(**{"database_url": nowhere} | settings))
    async with new_client(app) as client:
        yield client


@pytest.mark.parametrize("settings", [{}, PRODUCTION])
async def test_a_program_gets_links_that_exist(settings: dict[str, Any]) -> None:
    async with client_of(**settings) as client:
        response = await client.get("/")
        links = response.json()["links"]
        responses = [await client.get(response.url.join(link)) for link in links.values()]

    assert response.json()["name"] == "Twofold"
    assert set(links) == {"tasks", "graphql", "docs", "openapi", "health", "ready"}
    assert not [link for link in links.values() if link.startswith("/")]
    assert [each.url.path for each in responses if each.status_code == 404] == []


async def test_a_browser_gets_a_page_with_links_and_lines_to_paste() -> None:
    async with client_of(demo_token="demo_0123456789", log_level="DEBUG") as client:
        page = await client.get("/", headers=BROWSER)
        links = re.findall(r'<a href="([^"]+)"', page.text)
        responses = [await client.get(page.url.join(link)) for link in links]

    assert page.headers["Content-Type"].startswith("text/html")
    assert "export TOKEN=demo_0123456789" in page.text
    assert "curl http://localhost/tasks" in page.text
    assert "LOG_LEVEL" in page.text
    assert "secret" not in page.text
    assert len(links) == 6
    assert [each.url.path for each in responses if each.status_code == 404] == []


async def test_the_page_can_be_framed_stored_or_loaded_by_no_other_site() -> None:
    async with client_of() as client:
        page = await client.get("/", headers=BROWSER)

    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "Accept" in page.headers["Vary"]


async def test_production_shows_no_page_and_no_setting() -> None:
    async with client_of(**PRODUCTION) as client:
        response = await client.get("/", headers=BROWSER)

    assert response.headers["Content-Type"] == "application/json"
    assert "demo_0123456789" not in response.text
    assert set(response.json()) == {"name", "version", "links"}


async def test_a_setting_cannot_write_into_the_page() -> None:
    async with client_of(session_table="<script>alert(1)</script>") as client:
        page = await client.get("/", headers=BROWSER)

    assert "<script" not in page.text


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("DELETE", 405)])
async def test_it_is_read_only(method: str, status: int) -> None:
    async with client_of() as client:
        response = await client.request(method, "/")

    assert response.status_code == status
    assert status == 200 or response.headers["Allow"] == "GET, HEAD"


async def test_it_is_at_the_root_path_too(database_url: str) -> None:
    app = create_app(settings_of_tests(database_url=database_url))
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        responses = [await client.request(method, "/api/") for method in ("GET", "HEAD")]

    assert [response.status_code for response in responses] == [200, 200]


# --- API_DOCS=false ---------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{}, PRODUCTION])
@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs/init.js", "/openapi.json", "/redoc"])
async def test_without_docs_nothing_that_explains_the_api_is_there(
    path: str, environment: dict[str, Any]
) -> None:
    async with client_of(api_docs=False, **environment) as client:
        response = await client.get(path, headers=BROWSER)

    assert (response.status_code, response.json()["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("environment", [{}, PRODUCTION])
async def test_without_docs_a_browser_gets_no_page_and_no_link_to_one(
    environment: dict[str, Any],
) -> None:
    async with client_of(api_docs=False, **environment) as client:
        index = await client.get("/", headers=BROWSER)
        graphiql = await client.get("/graphql", headers={"Accept": "text/html"})

    assert {*index.json()["links"]} == {"tasks", "graphql", "health", "ready"}
    assert "text/html" not in graphiql.headers["Content-Type"]
    assert graphiql.status_code >= 400


@pytest.mark.parametrize(("introspection", "told"), [(None, False), (True, True)])
async def test_without_docs_the_schema_is_told_only_if_that_is_set(
    introspection: bool | None, told: bool, database_url: str, sql: asyncpg.Connection
) -> None:
    settings = {"api_docs": False, "graphql_introspection": introspection}
    app = create_app(settings_of_tests(database_url=database_url, **settings))
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        schema = await client.post("/graphql", json={"query": "{ __schema { types { name } } }"})
        misspelled = await client.post("/graphql", json={"query": "{ viewr { id } }"})

    assert ("data" in schema.json()) is told
    assert ("Did you mean" in misspelled.text) is told


@pytest.mark.parametrize(("api_docs", "number"), [(True, 2), (False, 0)])
def test_without_docs_dev_names_no_page(api_docs: bool, number: int) -> None:
    url = "postgresql://ada:secret@127.0.0.1:1/none"
    shown = pages(settings_of_tests(database_url=url, api_docs=api_docs))

    welcome = welcome_message("http://127.0.0.1:8000", "embedded", [], shown)

    assert len(re.findall(r"http://\S+/(?:graphql|docs)$", welcome, re.MULTILINE)) == number
