"""The edge of the app: CORS, hosts, security headers, health, and the documentation's pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

import api.state
from api.app import create_app
from persistence.migrations import upgrade
from rest.docs_page import CONTENT_SECURITY_POLICY
from tests import conftest

DEVELOPMENT = ["http://localhost:3000", "http://127.0.0.1:3000", "http://localhost"]
FRONTEND = "https://app.example.com"
EXPOSED = {
    "Allow", "Content-Type", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate",
    "X-Request-ID",
}  # fmt: skip

Client = AbstractAsyncContextManager[httpx.AsyncClient]


@pytest.fixture
def served(database_url: str) -> Callable[..., Client]:
    """Starts an app with other settings, and hands out a client of it."""

    @asynccontextmanager
    async def serve(**given: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(conftest.settings_of_tests(**{"database_url": database_url} | given))
        async with app.router.lifespan_context(app), conftest.new_client(app) as client:
            client.app = app  # type: ignore[attr-defined]
            yield client

    return serve


def production(**given: Any) -> dict[str, Any]:
    """What production's settings say."""
    redis_url = "redis://127.0.0.1:1"
    return {"environment": "production", "cors_origins": [FRONTEND], "redis_url": redis_url} | given


# CORS


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({"environment": "development"}, DEVELOPMENT),
        ({"environment": "testing"}, DEVELOPMENT),
        ({"environment": "development", "cors_origins": [FRONTEND]}, [FRONTEND]),
        (production(), [FRONTEND]),
        (production(cors_origins=[FRONTEND, "https://b.example"]), [FRONTEND, "https://b.example"]),
    ],
)
async def test_each_environment_has_its_origins(
    settings: dict[str, Any], origins: list[str], served: Callable[..., Client]
) -> None:
    asking = [*DEVELOPMENT, FRONTEND, "https://b.example", "null", "https://evil.example"]

    async with served(**settings) as client:
        answers = [await client.get("/health", headers={"Origin": origin}) for origin in asking]

    allowed = [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]
    assert allowed == [origin if origin in origins else None for origin in asking]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000/", "http://localhost:", "http://localhost:x", "null", "*",
     "http://localhost:3000.evil.example", "HTTP://LOCALHOST:3000", "http://evil.example"],
)  # fmt: skip
async def test_no_other_origin_is_allowed(origin: str, client: httpx.AsyncClient) -> None:
    answered = await client.get("/health", headers={"Origin": origin})
    refused = await client.options("/tasks", headers=_preflight(origin))

    for response in (answered, refused):
        assert "Access-Control-Allow-Origin" not in response.headers
        assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    "path", ["/tasks", "/tasks/", "/tasks/1", "/tasks/bulk-delete", "/nowhere"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_preflight_is_allowed(method: str, path: str, client: httpx.AsyncClient) -> None:
    response = await client.options(path, headers=_preflight(DEVELOPMENT[0], method))

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == DEVELOPMENT[0]
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Max-Age"] == "600"
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert "Origin" in response.headers["Vary"]
    assert "X-Request-ID" in response.headers


async def test_a_browser_may_read_these_headers(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"Origin": DEVELOPMENT[0]})

    exposed = set(response.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed >= EXPOSED
    assert "*" not in exposed
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response.headers["Vary"]


def _preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method}


# Hosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LOCALHOST", "localhost.", "127.0.0.1:8000", "[::1]",
     "[::1]:8000", "twofold.test:1"],
)  # fmt: skip
async def test_outside_production_these_hosts_are_answered(
    host: str, served: Callable[..., Client]
) -> None:
    async with served(host="twofold.test") as client:
        response = await client.get("/health", headers={"Host": host})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8000", "127.0.0.2", "[::2]"],
)
@pytest.mark.parametrize("path", ["/tasks", "/healthy", "/docs", "/nowhere"])
async def test_others_get_421(path: str, host: str, client: httpx.AsyncClient) -> None:
    response = await client.get(path, headers={"Host": host.encode("latin-1")})

    assert (response.status_code, response.json()["type"]) == (421, "misdirected_request")


ENVIRONMENTS = [{"environment": "development"}, {"environment": "testing"}, production()]
NO_HOST: list[list[bytes]] = [
    [],
    [b"localhost", b"localhost"],
    [b"localhost", b"evil.example"],
    [b""],
    [b"localhost@evil.example"],
    [b"http://localhost"],
    [b"localhost/"],
    [b"localhost:80:80"],
    [b"localhost:x"],
    [b"localhost, localhost"],
    [b"::1"],
    [b"[::1"],
    [b"local host"],
    [b"localhost\n"],
    [b"\xff"],
    [b"\xd9\xa1"],
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: each["environment"])
async def test_a_request_that_does_not_name_one_host_is_invalid_everywhere(
    environment: dict[str, Any], served: Callable[..., Client]
) -> None:
    async with served(**environment) as client:
        for hosts in NO_HOST:
            for path in ("/tasks", "/health", "/docs", "/nowhere", "/graphql"):
                request = client.build_request("GET", path)
                headers = [(b"host", host) for host in hosts]
                request.headers = httpx.Headers(headers)  # Without the one that httpx adds.

                response = await client.send(request)

                assert response.status_code == 400, (path, hosts)
                problem = response.json()
                if path == "/graphql":
                    problem = problem["errors"][0]["extensions"]
                [error] = problem["errors"]
                assert (error["field"], error["code"]) == ("Host", "host_invalid"), (path, hosts)


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/ready", "/tasks", "/graphql", "/docs", "/docs/init.js", "/openapi.json"],
)
@pytest.mark.parametrize("end", ["%0a", "%0d", "%0d%0a", "%0a/", "%0a%0a", "%00", "%0b", "%20"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_address_with_something_behind_it_is_another_address(
    path: str, end: str, method: str, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, path + end)

    assert (response.status_code, response.json()["type"]) == (404, "not_found_error")


async def test_in_production_every_host_is_answered(served: Callable[..., Client]) -> None:
    async with served(**production()) as client:
        response = await client.get("/health", headers={"Host": "tasks.example.com"})

    assert response.status_code == 200


# Headers


@pytest.mark.parametrize("path", ["/tasks", "/health", "/docs", "/docs/init.js", "/nowhere"])
async def test_every_answer_has_the_security_headers(path: str, client: httpx.AsyncClient) -> None:
    headers = (await client.get(path)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        (production(), "max-age=31536000; includeSubDomains"),
        ({"environment": "development"}, None),
        ({"environment": "testing"}, None),
    ],
)
async def test_https_is_demanded_in_production_alone(
    settings: dict[str, Any], sent: str | None, served: Callable[..., Client]
) -> None:
    async with served(**settings) as client:
        answers = [await client.get(path) for path in ("/health", "/nowhere")]

    assert [answer.headers.get("Strict-Transport-Security") for answer in answers] == [sent] * 2


async def test_cookies_are_neither_read_nor_set(ada_client: httpx.AsyncClient) -> None:
    token = ada_client.headers.pop("Authorization").removeprefix("Bearer ")
    names = ("session", "better-auth.session_token", "Authorization")
    cookies = "; ".join(f"{name}={token}" for name in names)

    response = await ada_client.get("/tasks", headers={"Cookie": cookies})

    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers


# Health


async def test_health_says_ok(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", response.json()["timestamp"])


async def test_ready_says_how_each_part_is(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    parts = {name: value for name, value in response.json().items() if name != "timestamp"}
    assert (response.status_code, parts) == (200, {"status": "ok", "database": "ok"})


@pytest.fixture
async def untouched(postgres: Any, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database of the auth server's, into which nothing was migrated yet."""
    name = "edge"
    url = await conftest.new_database(postgres, name)
    await conftest.run_sql(url, conftest.SESSION_TABLES)
    yield url
    await conftest.run_sql(postgres.url("postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')


BEHIND = "CREATE TABLE twofold_alembic_version (version_num varchar(32) PRIMARY KEY)"
AHEAD = "INSERT INTO twofold_alembic_version VALUES ('9999_from_the_future')"
NO_SESSIONS = "DROP TABLE user_sessions"


@pytest.mark.parametrize(("state", "failing"), [("SELECT 1", "schema"), (BEHIND, "schema")])
async def test_an_instance_is_not_ready_for_a_schema_that_is_behind(
    state: str, failing: str, untouched: str, served: Callable[..., Client]
) -> None:
    await conftest.run_sql(untouched, state)

    async with served(database_url=untouched) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()["type"]) == (503, "service_unavailable")
    assert response.json()["failing"] == failing
    assert response.headers["Retry-After"] == "2"


async def test_an_instance_is_ready_for_a_schema_that_is_ahead(
    untouched: str, served: Callable[..., Client]
) -> None:
    await asyncio.to_thread(upgrade, untouched)
    await conftest.run_sql(untouched, "DELETE FROM twofold_alembic_version")
    await conftest.run_sql(untouched, AHEAD)

    async with served(database_url=untouched) as client:
        response = await client.get("/health/ready")

    assert response.status_code == 200


async def test_without_a_database_an_instance_lives_and_is_not_ready(
    served: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.state, "PROBE_SECONDS", 0.02)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"

    async with served(database_url=nowhere) as client:
        health, ready = await client.get("/health"), await client.get("/health/ready")

    assert health.status_code == 200
    assert (ready.status_code, ready.json()["failing"]) == (503, "database")


async def test_an_instance_that_drains_is_not_ready_and_serves_on(
    served: Callable[..., Client],
) -> None:
    async with served() as client:
        client.app.state.twofold.draining = True  # type: ignore[attr-defined]
        health, ready = await client.get("/health"), await client.get("/health/ready")

    assert health.status_code == 200
    assert (ready.status_code, ready.json()["failing"]) == (503, "instance")


async def test_without_readable_sessions_an_instance_is_not_ready_and_says_503(
    untouched: str, served: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app._require_usable_tables", _not_now)
    await conftest.run_sql(untouched, f"{BEHIND}; {AHEAD}; {NO_SESSIONS}")

    async with served(database_url=untouched) as client:
        ready = await client.get("/health/ready")
        tasks = await client.get("/tasks", headers={"Authorization": "Bearer x"})

    assert (ready.status_code, ready.json()["failing"]) == (503, "sessions")
    assert "user_sessions" not in ready.text
    assert (tasks.status_code, tasks.json()["type"]) == (503, "service_unavailable")


async def _not_now(state: object) -> None:
    """As when the database was away while the instance started."""


# The documentation

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
        answers = {path: await client.get(path) for path in FILES}

    assert {path: answer.headers["Content-Type"] for path, answer in answers.items()} == FILES
    assert all(answer.status_code == 200 and answer.content for answer in answers.values())


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
    assert [answer.status_code for answer in loaded] == [200] * 4
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
