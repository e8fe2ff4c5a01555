"""nginx in front of instances, with the health checks of a load balancer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGHUP
from typing import Final

import httpx

from persistence.embedded.processes import free_port
from tests.control import GIVE_UP
from tests.servers import require_program, until_listening

CHECK_EVERY: Final = 0.25
"""Seconds between two readiness checks of an instance."""


def require_nginx() -> str:
    """The path of nginx; without one the test is skipped, or fails if nginx is required."""
    return require_program("nginx", "nginx-light")


@dataclass(slots=True)
class LoadBalancer:
    """nginx, which sends requests to the instances that report ready.

    Attributes:
        instances: the ports of the instances that are checked.
        routed: the ports of those that requests are sent to.
    """

    home: Path
    port: int
    client: httpx.AsyncClient
    instances: set[int] = field(default_factory=set)
    routed: set[int] = field(default_factory=set)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The address of nginx."""
        return f"http://127.0.0.1:{self.port}"

    async def until_routed(self, *ports: int) -> None:
        """Wait until requests go to these instances and no other."""
        async with asyncio.timeout(GIVE_UP):
            while self.routed != set(ports):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)

    async def keep_watch(self) -> None:
        """Check the readiness of every instance again and again, and update nginx."""
        while True:
            ready = await self.ready()
            # Without a ready instance, nginx goes on with those that were ready before.
            if ready and ready != self.routed:
                self._route_to(ready)
            await asyncio.sleep(CHECK_EVERY)

    async def ready(self) -> set[int]:
        """The instances that report ready."""
        # A copy: instances are added and removed while these are checked.
        return {port for port in tuple(self.instances) if await _is_ready(self.client, port)}

    def _route_to(self, ports: set[int]) -> None:
        (self.home / "nginx.conf").write_text(_configuration(self.home, self.port, ports))
        if self.process:
            self.process.send_signal(SIGHUP)
        self.routed = ports


@asynccontextmanager
async def load_balancer(home: Path, *instances: int) -> AsyncIterator[LoadBalancer]:
    """nginx in front of these instances, which must be ready."""
    program = require_nginx()
    async with httpx.AsyncClient(timeout=2) as client:
        balancer = LoadBalancer(home, free_port(), client, set(instances))
        balancer._route_to(set(instances))
        balancer.process = await asyncio.create_subprocess_exec(
            program, "-p", str(home), "-c", "nginx.conf", "-e", "error.log"
        )
        try:
            await until_listening(balancer.port)
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
            # No second attempt, so that every failure reaches the client.
            proxy_next_upstream off;
        }}
    }}
}}
"""
