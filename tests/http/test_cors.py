"""CORS: which origins may read responses, and which of their headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.http.environments import FRONTEND, Client, production

DEVELOPMENT = ["http://localhost:3000", "http://127.0.0.1:3000", "http://localhost"]
EXPOSED = {
    "Allow", "Content-Type", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate",
    "X-Request-ID",
}  # fmt: skip


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
        responses = [await client.get("/health", headers={"Origin": origin}) for origin in asking]

    allowed = [response.headers.get("Access-Control-Allow-Origin") for response in responses]
    assert allowed == [origin if origin in origins else None for origin in asking]
    assert {response.status_code for response in responses} == {200}


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
