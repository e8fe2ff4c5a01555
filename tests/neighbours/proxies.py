"""Real nginx and Apache in front of one instance."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from persistence.embedded.processes import free_port
from tests.servers import require_program, until_listening


@asynccontextmanager
async def nginx(home: Path, locations: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx, which serves these locations."""
    port = free_port()
    folders = " ".join(
        f"{kind}_temp_path {home}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {home}/pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    {folders}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
""")
    program = require_program("nginx", "nginx-light")
    command = (program, "-p", str(home), "-c", "nginx.conf", "-e", "error.log")
    async with _running(command, port) as client:
        yield client


@asynccontextmanager
async def apache(home: Path, directives: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of Apache, which obeys these directives."""
    program = require_program("apache2", "apache2")
    port = free_port()
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in ("mpm_event", "authz_core", "proxy", "proxy_http", "filter", "deflate")
    )
    identity = "User nobody\nGroup nogroup" if os.geteuid() == 0 else ""
    (home / "apache.conf").write_text(f"""
ServerRoot {home}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {home}/apache.pid
ErrorLog {home}/error.log
DefaultRuntimeDir {home}
{identity}
{modules}
{directives}
""")
    command = (program, "-f", str(home / "apache.conf"), "-D", "FOREGROUND")
    async with _running(command, port) as client:
        yield client


@asynccontextmanager
async def _running(command: tuple[str, ...], port: int) -> AsyncIterator[httpx.AsyncClient]:
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with httpx.AsyncClient(base_url=f"http://localhost:{port}", timeout=30) as client:
            await until_listening(port)
            yield client
    finally:
        process.terminate()
        await process.wait()
