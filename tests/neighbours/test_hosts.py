"""Development beyond localhost: other machines and tunnels name other hosts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.server.listener import as_ipv4
from api.settings import SettingsError, load
from tests.conftest import new_client, settings_of_tests
from tests.servers import served

Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def client_of(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with these settings, which has no database."""
    nowhere = "postgresql://twofold@127.0.0.1:1/none"
    async with new_client(
        create_app(settings_of_tests(database_url=nowhere, **settings))
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("laptop.local", 404),
        ("LAPTOP.local:8000", 404),
        ("abc.tunnel.example", 404),
        ("a.b.tunnel.example", 404),
        ("[fe80::1]:8000", 404),
        ("192.168.1.7:8000", 404),
        ("localhost", 404),
        ("tunnel.example", 421),
        ("eviltunnel.example", 421),
        ("laptop.local.evil.example", 421),
    ],
)
async def test_the_hosts_of_the_setting_are_answered(host: str, status: int) -> None:
    allowed = ["Laptop.local", "*.tunnel.example", "[fe80::1]", "192.168.1.7"]
    async with client_of(host="0.0.0.0", allowed_hosts=allowed) as client:
        response = await client.get("/nowhere", headers={"Host": host})

    assert response.status_code == status


async def test_a_refusal_names_the_setting_to_the_client_and_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "twofold"):
        async with client_of() as client:
            responses = [
                await client.get("/tasks", headers={"Host": "laptop.local"}) for _ in range(3)
            ]
            graphql = await client.post("/graphql", headers={"Host": "laptop.local"}, json={})
            for number in range(100):
                await client.get("/tasks", headers={"Host": f"{number}.example"})

    assert {response.status_code for response in (*responses, graphql)} == {421}
    assert "ALLOWED_HOSTS" in responses[0].json()["detail"]
    assert "ALLOWED_HOSTS" in graphql.json()["errors"][0]["message"]
    assert [line for line in caplog.messages if "'laptop.local'" in line] == [
        "no answer for the host 'laptop.local'; ALLOWED_HOSTS lists further ones"
    ]
    assert len(caplog.messages) == 20


@pytest.mark.parametrize("path", ["/health", "/health/"])
async def test_health_answers_a_load_balancer_that_names_an_address(path: str) -> None:
    async with client_of() as client:
        response = await client.get(path, headers={"Host": "10.0.0.17:8000"})

    assert response.status_code == 200


async def test_production_answers_every_host_unless_they_are_listed() -> None:
    production = {
        "environment": "production",
        "cors_origins": ["https://app.example.com"],
        "redis_url": "redis://127.0.0.1:1",
    }
    async with client_of(**production) as client:
        any_host = await client.get("/nowhere", headers={"Host": "api.example.com"})
    async with client_of(**production, allowed_hosts=["api.example.com"]) as client:
        listed = await client.get("/nowhere", headers={"Host": "api.example.com"})
        other = await client.get("/nowhere", headers={"Host": "localhost"})

    assert [each.status_code for each in (any_host, listed, other)] == [404, 404, 421]


@pytest.mark.parametrize(
    "host", ["*", "https://a.example", "a.example:80", "a b", "*a.example", ""]
)
def test_what_is_no_host_is_a_problem_of_the_settings(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", f"{host},")
    monkeypatch.setenv("DATABASE_URL", "postgresql://twofold@127.0.0.1:1/none")
    monkeypatch.setenv("SESSION_STORE", "better-auth")

    if host:
        with pytest.raises(SettingsError, match=r"ALLOWED_HOSTS: .* is not a host"):
            load(dotenv=False)
    else:
        assert load(dotenv=False).allowed_hosts == []


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_two_colons_serve_both_families(workers: str, database_url: str) -> None:
    async with served(database_url, HOST="::", WEB_CONCURRENCY=workers) as (client, _):
        over_ipv4 = await client.get("/health")
        over_ipv6 = await client.get(f"http://[::1]:{client.base_url.port}/health")

    assert (over_ipv4.status_code, over_ipv6.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("::ffff:192.0.2.1", 5000), ("192.0.2.1", 5000)),
        (("192.0.2.1", 5000), ("192.0.2.1", 5000)),
        (("2001:db8::1", 5000), ("2001:db8::1", 5000)),
        (None, None),
    ],
)
def test_on_two_colons_an_ipv4_client_has_its_own_address(
    client: tuple[str, int] | None, address: tuple[str, int] | None
) -> None:
    assert as_ipv4(client) == address
