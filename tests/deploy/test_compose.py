"""The parts of `compose.yaml` as processes of this machine, with the settings that stand there.

Docker does not run here, so that its networks, volumes and health checks are left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import yaml

from persistence.embedded.postgres import Postgres
from persistence.embedded.processes import free_port
from persistence.embedded.valkey import valkey
from tests.auth_server.client import FOLDER, AuthServer, running
from tests.conftest import ROOT, new_database
from tests.deploy.test_document import block
from tests.deploy.test_proxies import nginx, proxy
from tests.programs import require, what_is_missing
from tests.servers import COMMAND, served

pytestmark = pytest.mark.node

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The file `compose.env`, as the document's lines write it."""
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")
    folder = tmp_path_factory.mktemp("compose")
    lines = block("sh", "docker compose").partition("docker compose")[0]
    subprocess.run(["sh", "-euc", lines], cwd=folder, check=True)
    pairs = (line.partition("=") for line in (folder / "compose.env").read_text().splitlines())
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with valkey() as server:
        yield server.url


@pytest.fixture(scope="module")
async def database(postgres: Postgres) -> str:
    """An empty database: the auth server and the migration bring all tables."""
    return await new_database(postgres, "compose")


def environment(
    service: str, secrets: dict[str, str], database: str, redis_url: str
) -> dict[str, str]:
    """The variables of a service, with the servers of this machine in place of containers."""
    variables = {}
    for name, text in SERVICES[service]["environment"].items():
        filled = re.sub(
            r"\$\{(\w+)(?::\?|:-([^}]*))\}", lambda match: secrets.get(match[1], match[2]), text
        )
        filled = re.sub(r"^postgresql://\S+@postgres/twofold$", database, filled)
        variables[name] = re.sub(r"^redis://valkey$", redis_url, filled)
    assert "$" not in "".join(variables.values())
    return variables


@pytest.fixture(scope="module")
async def everything(
    secrets: dict[str, str], database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx, with everything behind it, started in compose's order."""
    home, ports = tmp_path_factory.mktemp("nginx"), [free_port() for _ in range(6)]
    front, auth, *instances = ports[:4]
    site = (ROOT / "deploy/nginx.conf").read_text()
    site = re.sub(r"^resolver.*\n", "", site, flags=re.MULTILINE).replace(" resolve", "")
    for name, port in {"twofold-1:8000": instances[0], "twofold-2:8000": instances[1],
                       "auth:3000": auth, "8080": front}.items():  # fmt: skip
        assert name in site
        site = site.replace(name, f"127.0.0.1:{port}")
    async with AsyncExitStack() as stack:
        variables = environment("auth", secrets, database, redis_url) | {"PORT": str(auth)}
        await stack.enter_async_context(running("hashed", **variables))
        migrate = environment("migrate", secrets, database, redis_url)
        command = [*COMMAND[:-1], *SERVICES["migrate"]["command"][1:]]
        await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=os.environ | migrate, check=True
        )
        for number, (name, port) in enumerate(
            zip(("twofold-1", "twofold-2"), instances, strict=True)
        ):
            variables = environment(name, secrets, database, redis_url)
            variables |= {"ENVIRONMENT": "production", "RATE_LIMIT_ENABLED": "true",
                          "PORT": str(port), "METRICS_PORT": str(ports[4 + number]),
                          "DRAIN_SECONDS": "0"}  # fmt: skip
            url = variables.pop("DATABASE_URL")
            await stack.enter_async_context(served(url, **variables))
        command = nginx(home, front, site)
        yield await stack.enter_async_context(proxy(*command, port=front))


def sign_up(address: str) -> dict[str, Any]:
    """Run the document's `curl` line against nginx."""
    _, curl, rest = block("sh", "docker compose").partition("curl")
    line = (curl + rest).replace("http://localhost:8080", address)
    done = subprocess.run(["sh", "-euc", line], capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def test_who_signs_up_at_the_auth_server_has_tasks_at_both_instances(
    everything: httpx.AsyncClient,
) -> None:
    signed = await asyncio.to_thread(sign_up, str(everything.base_url).rstrip("/"))
    headers = {"Authorization": f"Bearer {signed['token']}"}

    created = await everything.post("/tasks", json={"title": "water the plants"}, headers=headers)
    lists = [await everything.get("/tasks", headers=headers) for _ in range(4)]
    remaining = [int(each.headers["X-RateLimit-Remaining"]) for each in lists]

    assert (created.status_code, created.json()["user_id"]) == (201, signed["user"]["id"])
    assert [[task["title"] for task in each.json()] for each in lists] == [["water the plants"]] * 4
    # One budget, in Valkey, whichever instance nginx has chosen.
    assert remaining == [99, 98, 97, 96]


async def test_what_the_health_checks_ask_for_is_there(everything: httpx.AsyncClient) -> None:
    [path] = re.findall(r"3000(/[^']+)'", SERVICES["auth"]["healthcheck"]["test"][-1])

    responses = [await everything.get(each) for each in (path, "/health", "/health/ready")]

    assert [response.status_code for response in responses] == [200, 200, 200]


async def test_after_a_sign_out_the_token_is_refused(everything: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=everything.base_url.join("/api/auth")) as client:
        auth = AuthServer(client)
        grace = await auth.sign_up("grace")
        headers = {"Authorization": f"Bearer {grace.token}"}
        before = await everything.get("/tasks", headers=headers)
        await auth.post("/sign-out", grace.token)
        after = await everything.get("/tasks", headers=headers)
    ready = await everything.get("/health/ready")

    assert (before.status_code, after.status_code) == (200, 401)
    assert ready.json() | {"timestamp": ""} == ready.json() | {"status": "ok", "timestamp": ""}
