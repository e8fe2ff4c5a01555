"""Security headers of every response; cookies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.http.environments import Client, production


@pytest.mark.parametrize("path", ["/tasks", "/health", "/docs", "/docs/init.js", "/nowhere"])
async def test_every_response_has_the_security_headers(
    path: str, client: httpx.AsyncClient
) -> None:
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
        responses = [await client.get(path) for path in ("/health", "/nowhere")]

    assert [response.headers.get("Strict-Transport-Security") for response in responses] == [
        sent
    ] * 2


async def test_cookies_are_neither_read_nor_set(ada_client: httpx.AsyncClient) -> None:
    token = ada_client.headers.pop("Authorization").removeprefix("Bearer ")
    names = ("session", "better-auth.session_token", "Authorization")
    cookies = "; ".join(f"{name}={token}" for name in names)

    response = await ada_client.get("/tasks", headers={"Cookie": cookies})

    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers
