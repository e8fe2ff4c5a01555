"""An instance stops under load, behind an nginx that does not check its health, and in front of it.

A load balancer with health checks has gone elsewhere by then; nginx as Debian ships it has none. It
sends a request elsewhere only if it was refused a connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import asyncpg
import httpx
import pytest

from persistence.embedded.processes import free_port
from tests.control import GIVE_UP
from tests.drills.instances import processes_of, replaced
from tests.drills.nginx import require_nginx
from tests.people import sign_in
from tests.servers import served, until_listening
from tests.surfaces import RestSurface

pytestmark = pytest.mark.timeout(600)

DRAIN = "0.5"
"""Seconds of drain: the moments that could lose a request are at its end."""


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        pytest.param(SIGTERM, "1", id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(SIGTERM, "2", id="SIGTERM, workers", marks=pytest.mark.drill),
        pytest.param(SIGINT, "1", id="SIGINT", marks=pytest.mark.slow),
        pytest.param(SIGHUP, "2", id="SIGHUP, workers", marks=pytest.mark.slow),
    ],
)
async def test_no_request_is_lost_when_an_instance_stops(
    number: Signals, workers: str, database_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    async with httpx.AsyncClient() as client:
        ada = await sign_in(sql, RestSurface(client), "ada")
    async with (
        served(database_url, DRAIN_SECONDS=DRAIN, WEB_CONCURRENCY=workers) as (one, stopping),
        served(database_url) as (other, _),
        nginx(tmp_path, *(client.base_url.port or 0 for client in (one, other))) as proxy,
    ):
        load = Load(ada.token)
        async with load.on(proxy, new=12), load.on(one.base_url.port or 0, kept=4):
            await load.until(500)
            before = set(processes_of(stopping)[1:])
            stopping.send_signal(number)
            if number is SIGHUP:
                await replaced(stopping, before)
            else:
                await asyncio.wait_for(stopping.wait(), GIVE_UP)
            await load.until(load.requests + 300)
        stopping.send_signal(SIGTERM) if number is SIGHUP else None
        code = await asyncio.wait_for(stopping.wait(), GIVE_UP)

    assert load.lost == []
    assert code == 0


@dataclass(slots=True)
class Load:
    """Users who send POST requests, one after another, and none again.

    Attributes:
        requests: how many were sent.
        lost: what became of those that were neither answered properly nor refused a connection.
    """

    token: str
    requests: int = 0
    lost: list[str] = field(default_factory=list)
    _is_over: bool = False

    @asynccontextmanager
    async def on(self, port: int, new: int = 0, kept: int = 0) -> AsyncIterator[None]:
        """Users of a port for as long as the block lasts, and until their last response.

        Args:
            new: users who open a connection for each request.
            kept: users who keep their connection until the server closes it.
        """
        habits = [True] * kept + [False] * new
        users = [asyncio.create_task(self._use(port, keeps)) for keeps in habits]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*users)

    async def until(self, requests: int) -> None:
        """Wait until so many requests were sent, or one was lost."""
        while self.requests < requests and not self.lost:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)

    async def _use(self, port: int, keeps: bool) -> None:
        while not self._is_over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            try:
                while await self._is_answered(reader, writer, keeps) and not self._is_over:
                    pass
            finally:
                writer.close()

    async def _is_answered(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keeps: bool
    ) -> bool:
        """Send a request. Returns whether the connection can be used again."""
        self.requests += 1
        try:
            writer.write(_REQUEST % (self.token.encode(), b"keep-alive" if keeps else b"close"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
        except (OSError, EOFError, ValueError) as error:
            self.lost.append(repr(error))
            return False
        if not head.startswith(b"HTTP/1.1 200 ") or b'"errors"' in body:
            self.lost.append(repr(head + body))
        return keeps and b"connection: close" not in head.lower()


_BODY = b'{"query": "{ viewer { userId } }"}'
_REQUEST = (
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %%s\r\nConnection: %%s\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_BODY), _BODY)


@asynccontextmanager
async def nginx(home: Path, *instances: int) -> AsyncIterator[int]:
    """The port of an nginx in front of these instances, with nothing else but defaults."""
    port = free_port()
    servers = "\n".join(f"server 127.0.0.1:{each};" for each in instances)
    folders = "\n".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {home}/pid;
events {{}}
http {{
    access_log off;
    {folders}
    upstream twofold {{
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://twofold;
            proxy_set_header Host $host;
        }}
    }}
}}
""")
    process = await asyncio.create_subprocess_exec(
        require_nginx(), "-p", str(home), "-c", "nginx.conf", "-e", "error.log"
    )
    try:
        await until_listening(port)
        yield port
    finally:
        process.terminate()
        await process.wait()
