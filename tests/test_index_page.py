"""``GET /``: links for programs, and in development a page for people."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from api.app import create_app
from tests.conftest import new_client, settings_of_tests

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
        answer = await client.get("/")
        links = answer.json()["links"]
        answers = [await client.get(answer.url.join(link)) for link in links.values()]

    assert answer.json()["name"] == "Twofold"
    assert set(links) == {"tasks", "graphql", "docs", "openapi", "health", "ready"}
    assert not [link for link in links.values() if link.startswith("/")]
    assert [each.url.path for each in answers if each.status_code == 404] == []


async def test_a_browser_gets_a_page_with_links_and_lines_to_paste() -> None:
    async with client_of(demo_token="demo_0123456789", log_level="DEBUG") as client:
        page = await client.get("/", headers=BROWSER)
        links = re.findall(r'<a href="([^"]+)"', page.text)
        answers = [await client.get(page.url.join(link)) for link in links]

    assert page.headers["Content-Type"].startswith("text/html")
    assert "export TOKEN=demo_0123456789" in page.text
    assert "curl http://localhost/tasks" in page.text
    assert "LOG_LEVEL" in page.text
    assert "secret" not in page.text
    assert len(links) == 6
    assert [each.url.path for each in answers if each.status_code == 404] == []


async def test_the_page_can_be_framed_stored_or_loaded_by_no_other_site() -> None:
    async with client_of() as client:
        page = await client.get("/", headers=BROWSER)

    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "Accept" in page.headers["Vary"]


async def test_production_shows_no_page_and_no_setting() -> None:
    async with client_of(**PRODUCTION) as client:
        answer = await client.get("/", headers=BROWSER)

    assert answer.headers["Content-Type"] == "application/json"
    assert "demo_0123456789" not in answer.text
    assert set(answer.json()) == {"name", "version", "links"}


async def test_a_setting_cannot_write_into_the_page() -> None:
    async with client_of(session_table="<script>alert(1)</script>") as client:
        page = await client.get("/", headers=BROWSER)

    assert "<script" not in page.text


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("DELETE", 405)])
async def test_it_is_read_only(method: str, status: int) -> None:
    async with client_of() as client:
        answer = await client.request(method, "/")

    assert answer.status_code == status
    assert status == 200 or answer.headers["Allow"] == "GET, HEAD"


async def test_it_is_at_the_root_path_too(database_url: str) -> None:
    app = create_app(settings_of_tests(database_url=database_url))
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = [await client.request(method, "/api/") for method in ("GET", "HEAD")]

    assert [answer.status_code for answer in answers] == [200, 200]
