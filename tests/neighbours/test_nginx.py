"""nginx with a prefix that it strips, as in ``location /api/ { proxy_pass http://app/; }``."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.neighbours.proxies import nginx
from tests.people import sign_in
from tests.servers import COMMAND, served
from tests.surfaces import RestSurface

pytestmark = pytest.mark.proxies

PREFIX = "/api"


@pytest.fixture
async def proxied(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of nginx, which strips the prefix."""
    async with served(database_url, ENVIRONMENT="development") as (direct, _):
        ada = await sign_in(sql, RestSurface(direct), "ada")
        location = f"location {PREFIX}/ {{ proxy_pass {str(direct.base_url).rstrip('/')}/; }}"
        async with nginx(tmp_path, location) as client:
            client.headers["Authorization"] = f"Bearer {ada.token}"
            yield client


@pytest.mark.parametrize("path", ["/tasks", "/tasks/"])
async def test_a_new_task_is_where_its_location_says(path: str, proxied: httpx.AsyncClient) -> None:
    created = await proxied.post(PREFIX + path, json={"title": "water the plants"})

    followed = await proxied.get(created.url.join(created.headers["Location"]))
    assert followed.url.path.startswith(f"{PREFIX}/tasks/")
    assert (created.status_code, followed.json()) == (201, created.json())


@pytest.mark.parametrize("path", ["/tasks", "/tasks/"])
async def test_the_next_page_is_where_the_link_says(path: str, proxied: httpx.AsyncClient) -> None:
    for number in range(3):
        await proxied.post(PREFIX + path, json={"title": f"task {number}"})

    first = await proxied.get(f"{PREFIX}{path}?limit=2")
    second = await proxied.get(first.url.join(first.links["next"]["url"]))

    titles = [task["title"] for page in (first, second) for task in page.json()]
    assert titles == ["task 2", "task 1", "task 0"]


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/graphql", "/graphql/"])
async def test_the_pages_load_their_files(path: str, proxied: httpx.AsyncClient) -> None:
    page = await proxied.get(PREFIX + path, headers={"Accept": "text/html"})

    addresses = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    responses = [await proxied.get(page.url.join(address)) for address in addresses]
    assert len(addresses) >= 2
    assert {response.status_code for response in responses} == {200}
    assert {response.url.path.startswith(PREFIX) for response in responses} == {True}


@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
async def test_graphiql_finds_its_endpoint(path: str, proxied: httpx.AsyncClient) -> None:
    page = await proxied.get(PREFIX + path, headers={"Accept": "text/html"})
    [configuration] = re.findall(r'id="twofold">(.*?)</script>', page.text)

    members = json.loads(configuration)
    query = {"query": "{ viewer { userId } }"}
    response = await proxied.post(page.url.join(members["endpoint"]), json=query)
    documentation = await proxied.get(page.url.join(members["docs"]))

    assert response.json()["data"] == {"viewer": {"userId": "ada"}}
    assert documentation.status_code == 200


async def test_a_root_path_leaves_the_errors_of_graphql_theirs(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    uvicorn = (
        COMMAND[0], "-m", "uvicorn", "--factory", "api.commands.serve:app", "--root-path", PREFIX,
    )  # fmt: skip
    async with served(database_url, *uvicorn) as (direct, _):
        ada = await sign_in(sql, RestSurface(direct), "ada")
        location = f"location {PREFIX}/ {{ proxy_pass {str(direct.base_url).rstrip('/')}/; }}"
        async with nginx(tmp_path, location) as client:
            refused = await client.post(f"{PREFIX}/graphql", json={"query": "{ viewer { id } }"})
            client.headers["Authorization"] = f"Bearer {ada.token}"
            created = await client.post(f"{PREFIX}/tasks", json={"title": "water the plants"})
            followed = await client.get(created.url.join(created.headers["Location"]))

    [error] = refused.json()["errors"]
    assert (refused.status_code, error["extensions"]["code"]) == (401, "AUTHENTICATION_ERROR")
    assert followed.json() == created.json()
