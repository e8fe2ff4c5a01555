"""The page that answers a browser's ``GET /graphql``, and the files it loads. Its life in a real
browser is tested in ``browser/``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from graphql import OperationDefinitionNode, get_introspection_query, parse

from api.app import create_app
from api.commands.dev import listening, set_demo_token, welcome_message
from graphql_schema.graphiql_page import CONTENT_SECURITY_POLICY
from graphql_schema.schema import engine, schema
from tests.conftest import ROOT, new_client, settings_of_tests

GRAPHIQL: Final = ROOT / "graphql_schema" / "graphiql"
ASSETS: Final = sorted(file.name for file in (GRAPHIQL / "dist").iterdir() if file.suffix != ".gz")
[MAIN] = (name for name in ASSETS if re.fullmatch(r"main-\w+\.js", name))
EXAMPLES: Final = sorted((GRAPHIQL / "src" / "examples").glob("*.graphql"))

# Chromium's and Firefox's.
A_BROWSERS: Final = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
]
BROWSER: Final = {"Accept": A_BROWSERS[0]}

# The page asks no database.
NOWHERE: Final = "postgresql://nobody@127.0.0.1:1/nothing"


def client_of(**settings: Any) -> httpx.AsyncClient:
    return new_client(create_app(settings_of_tests(database_url=NOWHERE, **settings)))


@pytest.fixture
async def demo() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that knows a demo token."""
    async with client_of(demo_token="demo_0123456789") as client:
        yield client


class Elements(HTMLParser):
    """Every element of a page, with its attributes, and what stands in the scripts."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and data.strip():
            self.scripts.append(data)


def page_settings(page: httpx.Response) -> Any:
    """What the server tells the page."""
    [data] = Elements(page).scripts
    return json.loads(data)


# --- When it is served --------------------------------------------------------------------


@pytest.mark.parametrize("accept", A_BROWSERS)
async def test_a_browser_is_answered_with_the_page(accept: str, demo: httpx.AsyncClient) -> None:
    for path in ("/graphql", "/graphql/", "/graphql?query={__typename}"):
        page = await demo.get(path, headers={"Accept": accept})

        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "GraphiQL" in page.text


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", "application/json", "application/json, text/html", "text/html;q=0, */*"],
)
async def test_no_one_else_is(accept: str | None, client: httpx.AsyncClient) -> None:
    request = client.build_request("GET", "/graphql", headers={"Accept": accept or ""})
    if accept is None:
        del request.headers["Accept"]

    response = await client.send(request)

    assert response.status_code == 401
    assert "json" in response.headers["content-type"]


async def test_a_browsers_post_is_a_request(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json={"query": "{ __typename }"}, headers=BROWSER)

    assert response.status_code == 401


async def test_head_is_get_without_the_body(demo: httpx.AsyncClient) -> None:
    for path in ("/graphql", f"/graphql/assets/{MAIN}"):
        got = await demo.get(path, headers=BROWSER)
        head = await demo.head(path, headers=BROWSER)

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers["content-type"] == got.headers["content-type"]


async def test_production_has_neither_the_page_nor_its_files() -> None:
    app = create_app(
        settings_of_tests(
            environment="production",
            database_url=NOWHERE,
            redis_url="redis://127.0.0.1:1",
            cors_origins=["https://app.example.com"],
            demo_token="demo_0123456789",
            graphql_introspection=True,
            request_deadline_seconds=0.05,
        )
    )
    async with app.router.lifespan_context(app), new_client(app) as client:
        page = await client.get("/graphql", headers=BROWSER)
        files = [await client.get(f"/graphql/assets/{name}") for name in ASSETS]

    assert page.status_code == 401
    assert page.headers["content-type"].startswith("application/json")
    assert "demo_0123456789" not in page.text
    assert {file.status_code for file in files} == {404}


# --- The demo token -----------------------------------------------------------------------


async def test_the_token_stands_in_the_page_and_in_nothing_a_page_can_load(
    demo: httpx.AsyncClient,
) -> None:
    page = await demo.get("/graphql", headers=BROWSER)
    others = [await demo.get(f"/graphql/assets/{name}") for name in ASSETS]
    others += [await demo.get(path) for path in ("/docs/init.js", "/openapi.json")]

    assert page_settings(page) == {
        "endpoint": "graphql",
        "docs": "docs",
        "headers": {"Authorization": "Bearer demo_0123456789"},
    }
    assert {other.status_code for other in others} == {200}
    assert all("demo_0123456789" not in other.text for other in others)


async def test_without_a_token_there_are_no_headers() -> None:
    async with client_of() as client:
        page = await client.get("/graphql", headers=BROWSER)

    assert page_settings(page) == {"endpoint": "graphql", "docs": "docs", "headers": {}}


async def test_a_token_cannot_end_the_element_it_stands_in() -> None:
    token = "</script><script src=//evil.example></script><!--"

    async with client_of(demo_token=token) as client:
        page = await client.get("/graphql", headers=BROWSER)

    assert page_settings(page)["headers"] == {"Authorization": f"Bearer {token}"}
    assert "evil" not in json.dumps(Elements(page).elements)


async def test_the_page_is_kept_and_framed_by_no_one(demo: httpx.AsyncClient) -> None:
    headers = (await demo.get("/graphql", headers=BROWSER)).headers

    assert headers["cache-control"] == "no-store"
    assert "Accept" in headers["vary"].split(", ")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY
    assert "script-src 'self';" in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("host", "is_shown"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_dev_sets_the_demo_token_on_loopback_only(
    host: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_TOKEN", "left by somebody else")

    with listening(host, 0) as listener:
        set_demo_token("demo_0123456789", listener)

    assert os.environ.get("DEMO_TOKEN") == ("demo_0123456789" if is_shown else None)


def test_dev_shows_graphiql_first() -> None:
    welcome = welcome_message("http://127.0.0.1:8000", "embedded", [])

    paths = re.findall(r"^  \S.*http://127\.0\.0\.1:8000(/\S+)$", welcome, re.MULTILINE)
    assert paths == ["/graphql", "/docs"]


# --- The files ----------------------------------------------------------------------------


async def test_everything_the_page_names_is_ours_and_there(demo: httpx.AsyncClient) -> None:
    page = Elements(await demo.get("/graphql", headers=BROWSER))
    named = [
        address
        for _, attributes in page.elements
        for name in ("src", "href")
        if (address := attributes.get(name)) and not address.startswith("data:")
    ]

    assert f"graphql/assets/{MAIN}" in named
    for address in named:
        response = await demo.get(address)
        assert address.startswith("graphql/assets/")
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize("name", ASSETS)
async def test_a_file_has_the_policy_of_the_page(name: str, demo: httpx.AsyncClient) -> None:
    response = await demo.get(f"/graphql/assets/{name}")

    assert response.status_code == 200
    assert response.content == (GRAPHIQL / "dist" / name).read_bytes()
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/nothing.js",
        f"/{MAIN}.gz",
        "/../page.html",
        "/..%2fpage.html",
        "/%2e%2e/page.html",
        "/.",
    ],
)
async def test_no_other_file_is_served(path: str, demo: httpx.AsyncClient) -> None:
    response = await demo.get(f"/graphql/assets{path}")

    assert response.status_code == 404
    assert response.json()["type"] == "not_found_error"


async def test_a_file_can_only_be_read(demo: httpx.AsyncClient) -> None:
    response = await demo.post(f"/graphql/assets/{MAIN}")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


def test_the_licences_of_what_is_served_are_served() -> None:
    licences = (GRAPHIQL / "dist" / "LICENSES.txt").read_text(encoding="utf-8")

    for package in json.loads((GRAPHIQL / "package.json").read_text())["devDependencies"]:
        assert package == "esbuild" or f"{package} " in licences


# --- What it shows ------------------------------------------------------------------------

ENGINE: Final = engine(settings_of_tests(database_url=NOWHERE))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_valid_with_its_variables_and_within_the_limits(example: Path) -> None:
    variables = example.with_suffix(".json")
    filled = json.loads(variables.read_text()) if variables.exists() else {}

    call = ENGINE.prepare(example.read_text()).operation(example.stem).bind(filled)

    assert call.cost == call.fields == (2 if example.stem == "OneTask" else 1)


def test_there_is_an_example_of_everything() -> None:
    is_shown = {
        selection.name.value  # type: ignore[attr-defined]
        for example in EXAMPLES
        for definition in parse(example.read_text()).definitions
        if isinstance(definition, OperationDefinitionNode)
        for selection in definition.selection_set.selections
    }
    types = schema()._schema
    assert types.query_type
    assert types.mutation_type

    assert is_shown == {*types.query_type.fields, *types.mutation_type.fields}


def test_introspection_costs_next_to_nothing_and_stays_within_the_limits() -> None:
    whole = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )

    call = ENGINE.prepare(whole).operation("IntrospectionQuery").bind({})

    assert call.cost == 0
