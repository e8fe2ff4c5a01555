"""Swagger UI and GraphiQL: where they are served, and what they may load."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from rest.docs_page import CONTENT_SECURITY_POLICY
from tests.http.environments import Client, production

FILES = {
    "/docs": "text/html; charset=utf-8",
    "/docs/init.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/LICENSE": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize("environment", [{"environment": "development"}, production()])
async def test_the_documentation_is_served_everywhere(
    environment: dict[str, Any], served: Callable[..., Client]
) -> None:
    async with served(**environment) as client:
        responses = {path: await client.get(path) for path in FILES}

    assert {path: response.headers["Content-Type"] for path, response in responses.items()} == FILES
    assert all(response.status_code == 200 and response.content for response in responses.values())


@pytest.mark.parametrize("path", FILES)
async def test_the_documentation_may_load_and_be_framed_by_nothing_else(
    path: str, client: httpx.AsyncClient
) -> None:
    policy = (await client.get(path)).headers["Content-Security-Policy"]

    assert policy == CONTENT_SECURITY_POLICY
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "script-src" not in directives
    assert "http" not in policy


async def test_the_page_has_no_script_of_its_own_and_all_it_loads_is_here(
    client: httpx.AsyncClient,
) -> None:
    page = _Page((await client.get("/docs")).text)

    loaded = [await client.get(url) for url in page.urls]
    assert page.urls == [
        "docs/swagger-ui.css",
        "docs/docs.css",
        "docs/swagger-ui-bundle.js",
        "docs/init.js",
    ]
    assert [response.status_code for response in loaded] == [200] * 4
    assert page.inline_scripts == []


async def test_the_page_shows_this_servers_document(client: httpx.AsyncClient) -> None:
    script = (await client.get("/docs/init.js")).text
    document = await client.get("/openapi.json")

    assert 'new URL("../openapi.json", document.currentScript.src)' in script
    assert "validatorUrl: null" in script
    assert document.headers["Content-Type"] == "application/json"
    assert document.json()["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    "path",
    ["/docs/../tasks.py", "/docs/..%2ftasks.py", "/docs/%2e%2e/tasks.py", "/docs/..%5ctasks.py",
     "/docs/%2Fetc%2Fpasswd", "/docs//etc/passwd", "/docs/init.js%00.css", "/docs/%00",
     "/docs/README.md", "/docs/index.html", "/docs/init.js/x", "/docs/" + "a" * 5000],
)  # fmt: skip
async def test_no_other_file_can_be_had(path: str, client: httpx.AsyncClient) -> None:
    response = await client.get(path)

    assert (response.status_code, response.json()["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(
    "wanted", ["bytes=0-1", "bytes=9999999-", "bytes=x", "x", "bytes=" + "0-1," * 999]
)
async def test_a_range_is_not_served(wanted: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/docs/init.js", headers={"Range": wanted})

    assert response.status_code == 200


class _Page(HTMLParser):
    """What a page loads, and the scripts that stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline_scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        url = values.get("src") or (values.get("href") if tag == "link" else None)
        if url and not url.startswith("data:"):
            self.urls.append(url)
        self._in_script = tag == "script" and values.get("type") != "application/json"
        self.inline_scripts += [name for name in values if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline_scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False
