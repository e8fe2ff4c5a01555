"""The proxies of `docs/deploy.md` and `compose.yaml`, as they stand there, before two instances."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from persistence.embedded.processes import free_port
from tests.conftest import ROOT
from tests.control import GIVE_UP
from tests.deploy.test_document import block
from tests.live.clients import WebSocket
from tests.people import Person, sign_in
from tests.servers import require_program, served, until_listening
from tests.surfaces import RestSurface

pytestmark = pytest.mark.proxies

STREAMS = 6
"""Clients that write at the same time."""


@asynccontextmanager
async def instances(
    database_url: str, drain: str = "0.5"
) -> AsyncIterator[dict[int, asyncio.subprocess.Process]]:
    """Two running instances by their ports."""
    async with AsyncExitStack() as stack:
        running = {}
        for port in (free_port(), free_port()):
            settings = {"PORT": str(port), "DRAIN_SECONDS": drain}
            _, process = await stack.enter_async_context(served(database_url, **settings))
            running[port] = process
        yield running


@asynccontextmanager
async def proxy(*command: str, port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy that listens on a port."""
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await until_listening(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


def nginx(home: Path, port: int, site: str) -> list[str]:
    """The command of nginx with this site."""
    folders = " ".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {home}/pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    {folders}
    {site}
}}
""")
    return [
        *(require_program("nginx", "nginx-light"), "-p", str(home)),
        *("-c", "nginx.conf", "-e", "error.log"),
    ]


def here(text: str, ports: list[int]) -> str:
    """A recipe with instances on this machine in place of `10.0.0.11` and `10.0.0.12`."""
    for address, port in zip(("10.0.0.11:8000", "10.0.0.12:8000"), ports, strict=True):
        assert address in text
        text = text.replace(address, f"127.0.0.1:{port}")
    return text


async def answers_while_one_stops(
    person: Person, client: httpx.AsyncClient, process: asyncio.subprocess.Process
) -> list[int]:
    """The statuses of writes of several clients, while an instance stops."""
    client.headers["Authorization"] = f"Bearer {person.token}"
    stopped = asyncio.Event()

    async def write(statuses: list[int]) -> None:
        after = 0
        # Some more, when it is gone.
        while after < 20:
            after += stopped.is_set()
            response = await client.post("/tasks", json={"title": "water the plants"})
            statuses.append(response.status_code)

    statuses: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(STREAMS):
            tasks.create_task(write(statuses))
        while len(statuses) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        process.terminate()
        await asyncio.wait_for(process.wait(), GIVE_UP)
        stopped.set()
    return statuses


async def followed(person: Person, client: httpx.AsyncClient) -> None:
    """Follow a change through the proxy: as server-sent events, and over a WebSocket."""
    client.headers["Authorization"] = f"Bearer {person.token}"
    url = str(client.base_url.copy_with(scheme="ws", path="/graphql"))
    async with (
        asyncio.timeout(GIVE_UP),
        client.stream("GET", "/tasks/events") as events,
        connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection,
    ):
        assert events.status_code == 200
        lines = (line async for line in events.aiter_lines() if line.startswith("data:"))
        assert '"changes":[]' in await anext(lines)
        socket = WebSocket(connection)
        await socket.init(person)
        await socket.subscribe()
        assert (await socket.next())["changes"] == []

        await client.post("/tasks", json={"title": "water the plants"})
        event = json.loads((await anext(lines)).removeprefix("data:"))
        message = await socket.next()
    for changes in (event["changes"], message["changes"]):
        assert [change["title"] for change in changes] == ["water the plants"]


def documented_site(instances: list[int], port: int) -> str:
    """The document's nginx for these instances, without TLS, on a port."""
    site = here(block("nginx", "limit_req_zone"), instances)
    site = re.sub(r"^ *ssl_cert.*\n", "", site, flags=re.MULTILINE)
    return site.replace("listen 443 ssl http2", f"listen 127.0.0.1:{port}")


async def test_nginx_as_documented_passes_event_streams_and_websockets(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    port = free_port()
    async with instances(database_url) as running:
        site = documented_site([*running], port)
        async with proxy(*nginx(tmp_path, port, site), port=port) as client:
            await followed(await sign_in(sql, RestSurface(client), "ada"), client)


async def test_nginx_as_documented_loses_no_request_when_an_instance_stops(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    port = free_port()
    async with instances(database_url) as running:
        site = documented_site([*running], port)
        # The test sends more than one address may.
        site = site.replace("rate=50r/s", "rate=10000r/s").replace("burst=100", "burst=10000")
        async with proxy(*nginx(tmp_path, port, site), port=port) as client:
            ada = await sign_in(sql, RestSurface(client), "ada")
            first, *_ = running.values()
            statuses = await answers_while_one_stops(ada, client, first)

    assert {*statuses} == {201}
    assert await sql.fetchval("SELECT count(*) FROM tasks") == len(statuses)


async def test_nginx_as_documented_limits_the_requests_of_an_address(
    database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    async with instances(database_url) as running:
        site = documented_site([*running], port)
        site = site.replace("rate=50r/s", "rate=1r/m").replace("burst=100", "burst=2")
        async with proxy(*nginx(tmp_path, port, site), port=port) as client:
            statuses = [(await client.get("/health")).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 429]


async def test_nginx_of_compose_serves_two_instances_and_the_auth_server(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    port, auth = free_port(), free_port()
    site = (ROOT / "deploy/nginx.conf").read_text()
    async with instances(database_url) as running:
        # nginx of Debian is too old for `resolve`, and there is no name server of Docker's.
        site = re.sub(r"^resolver.*\n", "", site, flags=re.MULTILINE).replace(" resolve", "")
        for name, number in zip(("twofold-1", "twofold-2"), running, strict=True):
            site = site.replace(f"{name}:8000", f"127.0.0.1:{number}")
        site = site.replace("auth:3000", f"127.0.0.1:{auth}").replace("8080", f"127.0.0.1:{port}")
        async with (
            await asyncio.start_server(_says_ok, "127.0.0.1", auth),
            proxy(*nginx(tmp_path, port, site), port=port) as client,
        ):
            ready = await client.get("/health/ready")
            signed = await client.get("/api/auth/ok")
            await followed(await sign_in(sql, RestSurface(client), "ada"), client)

    assert (ready.status_code, signed.text) == (200, "auth")


async def _says_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nauth")
    writer.close()


async def test_caddy_as_documented_loses_no_request_when_an_instance_stops(
    database_url: str, sql: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caddy = require_program("caddy", "caddy")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    port = free_port()
    # Its check runs every second: once before, and once after the instance reports unready.
    async with instances(database_url, drain="3") as running:
        site = here(block("caddyfile", "reverse_proxy"), [*running])
        site = site.replace("api.example.com", f"http://127.0.0.1:{port}")
        file = tmp_path / "Caddyfile"
        file.write_text("{\n    admin off\n}\n" + site)
        command = (caddy, "run", "--config", str(file), "--adapter", "caddyfile")
        async with proxy(*command, port=port) as client:
            async with asyncio.timeout(GIVE_UP):
                # A first check that was late on a busy machine takes the instances out.
                while (await client.get("/health")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            ada = await sign_in(sql, RestSurface(client), "ada")
            await followed(ada, client)
            first, *_ = running.values()
            statuses = await answers_while_one_stops(ada, client, first)

    assert {*statuses} == {201}
    assert await sql.fetchval("SELECT count(*) FROM tasks") == len(statuses) + 1
