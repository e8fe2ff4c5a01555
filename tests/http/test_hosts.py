"""Which hosts are served in which environment, and what a request without one host gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.http.environments import Client, production


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
