"""nginx in front of instances, and who keeps its list of them: as a load balancer would."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGHUP
from typing import Final

import httpx
import pytest

from tests.servers import free_port

CHECK_EVERY: Final = 0.25
"""Seconds between two looks at an instance's readiness."""


def needed() -> str:
    """nginx's path. Skips the test where there is none; fails with ``TWOFOLD_REQUIRE_NGINX=1``."""
    # Debian keeps it where users other than root do not look.
    found = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if found:
        return found
    missing = "nginx is not installed (on Debian and Ubuntu: apt install nginx-light)"
    if os.environ.get("TWOFOLD_REQUIRE_NGINX") == "1":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@dataclass(slots=True)
class LoadBalancer:
    """nginx, and the instances that it may send requests to: those that say they are ready."""

    home: Path
    port: int
    client: httpx.AsyncClient
    instances: set[int] = field(default_factory=set)
    routed: set[int] = field(default_factory=set)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where everybody knocks."""
        return f"http://127.0.0.1:{self.port}"

    async def until_routed(self, *ports: int) -> None:
        """Wait until requests go to these instances and no other."""
        async with asyncio.timeout(20):
            while True:
                if self.routed == set(ports):
                    return
                await asyncio.sleep(0.02)

    async def keep_watch(self) -> None:
        """Ask every instance whether it is ready, again and again, and tell nginx of changes."""
        while True:
            ready = await self.ready()
            # With nobody left, those who were ready a moment ago are still the best guess.
            if ready and ready != self.routed:
                self._route_to(ready)
            await asyncio.sleep(CHECK_EVERY)

    async def ready(self) -> set[int]:
        """The instances that say so."""
        # Others come and go while they are asked.
        return {port for port in tuple(self.instances) if await _is_ready(self.client, port)}

    def _route_to(self, ports: set[int]) -> None:
        (self.home / "nginx.conf").write_text(_configuration(self.home, self.port, ports))
        if self.process:
            self.process.send_signal(SIGHUP)
        self.routed = ports


@asynccontextmanager
async def load_balancer(home: Path, *instances: int) -> AsyncIterator[LoadBalancer]:
    """nginx before these instances, which must be ready, for as long as the block lasts."""
    program = needed()
    async with httpx.AsyncClient(timeout=2) as client:
        balancer = LoadBalancer(home, free_port(), client, set(instances))
        balancer._route_to(set(instances))
        balancer.process = await asyncio.create_subprocess_exec(
            program, "-p", str(home), "-c", "nginx.conf", "-e", "error.log"
        )
        try:
            await _answering(balancer.port)
            watch = asyncio.create_task(balancer.keep_watch())
            yield balancer
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        finally:
            balancer.process.terminate()
            await balancer.process.wait()


async def _is_ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def _answering(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


def _configuration(home: Path, port: int, instances: set[int]) -> str:
    servers = "\n".join(f"server 127.0.0.1:{each} max_fails=0;" for each in sorted(instances))
    temporary = "\n".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 1;
pid {home}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    upstream twofold {{
        {servers}
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        # A reload closes idle connections, to which a client may just have written.
        keepalive_timeout 0;
        location / {{
            proxy_pass http://twofold;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            # Nothing is tried again: what fails, fails for all to see.
            proxy_next_upstream off;
        }}
    }}
}}
"""
