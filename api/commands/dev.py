"""`twofold dev`: the service with reload, on servers of its own where none are given."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.supervisors.statreload import StatReload

from api.app import create_app
from api.commands.listener import listening
from api.commands.migrate import upgrade
from api.commands.serve import log_config, server_options
from api.commands.terminal import Refusal, given, usable
from api.settings import Settings, load
from persistence import demo, embedded
from persistence.embedded import Postgres, private_text
from persistence.processes import die_with_parent
from persistence.sessions.tokens import hash_token

ROOT: Final = Path(__file__).parent.parent.parent
PACKAGES: Final = ("api", "graphql_schema", "persistence", "rest")

DATA: Final = Path(".data")

# What a person who has just started it may want to open, in this order.
PAGES: Final = (("GraphiQL", "/graphql"), ("API docs", "/docs"))


def dev(parent: int | None) -> None:
    """Serve until told to stop.

    Args:
        parent: the process whose end is also ours, even if it is killed.

    Raises:
        Refusal: the settings cannot be used, or a server of ours cannot be started.
    """
    _end_with(parent)
    try:
        if given("DATABASE_URL"):
            _develop_on_given_database()
        else:
            with embedded.postgres(DATA / "postgres") as server, _shared_budget():
                _develop_on(server)
    except embedded.EmbeddedError as error:
        raise Refusal(str(error)) from None


@contextmanager
def _shared_budget() -> Iterator[None]:
    """Budgets on an embedded Valkey; in process where there is none for this machine."""
    with ExitStack() as stack:
        if not given("REDIS_URL"):
            with suppress(embedded.EmbeddedError):
                os.environ["REDIS_URL"] = stack.enter_context(embedded.valkey()).url
        yield


def _end_with(parent: int | None) -> None:
    """Leave in order on SIGTERM, when the terminal closes, and when `parent` ends."""
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform != "win32":
        # uvicorn knows SIGTERM, and not this one.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if parent:
        die_with_parent(parent, signal.SIGTERM)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    # Unwinds through every `with`, once, so that the servers are stopped.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _develop_on_given_database() -> None:
    settings = usable(load)
    with listening(settings.host, settings.port) as listener:
        base = _address(listener)
        _serve_with_reload(settings, listener, welcome_to(base, "the one in DATABASE_URL", []))


def _develop_on(server: Postgres) -> None:
    token = private_text(server.home / "demo_token", lambda: f"demo_{secrets.token_urlsafe(24)}")
    secret = given("SESSION_HASH_SECRET") or private_text(
        server.home / "session_hash_secret", lambda: secrets.token_urlsafe(48)
    )
    # For the workers too, which read their settings as ever.
    os.environ |= {
        "ENVIRONMENT": "development",
        "DATABASE_URL": server.url("twofold"),
        "SESSION_STORE": "hashed",
        "SESSION_TABLE": "user_sessions",
        "SESSION_HASH_SECRET": secret,
    }
    settings = usable(load)
    with listening(settings.host, settings.port) as listener:
        hand_over(token, listener)
        asyncio.run(demo.create_database(server.url(), "twofold"))
        upgrade(server.url("twofold"))
        token_hash = hash_token(secret.encode(), token.encode())
        task = asyncio.run(demo.seed(server.url("twofold"), token_hash))
        base = _address(listener)
        welcome = welcome_to(base, _whereabouts(server), _things_to_try(base, token, task))
        _serve_with_reload(settings, listener, welcome)


def hand_over(token: str, listener: socket.socket) -> None:
    """GraphiQL may show the demo token where nobody but this machine can ask for the page."""
    os.environ.pop("DEMO_TOKEN", None)
    if ip_address(listener.getsockname()[0]).is_loopback:
        os.environ["DEMO_TOKEN"] = token


def _address(listener: socket.socket) -> str:
    """The URL under which this machine reaches a listener."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _whereabouts(server: Postgres) -> str:
    if server.home.is_relative_to(Path.cwd()):
        return f"embedded, data in {server.home.relative_to(Path.cwd())}"
    return f"embedded, data in {server.home} (runs as nobody, who cannot reach {DATA.resolve()})"


def _things_to_try(base: str, token: str, task: int) -> list[str]:
    identity = f"-H 'Authorization: Bearer {token}'"
    json = "-H 'Content-Type: application/json'"
    # The line feed keeps the next prompt off the answer.
    curl = rf"curl -w '\n' {base}/tasks"
    return [
        "List your tasks:",
        f"  {curl} {identity}",
        "Add one:",
        f'  {curl} {identity} {json} -d \'{{"title": "Water the plants"}}\'',
        f"Complete task {task}:",
        f"  {curl}/{task} {identity} {json} -X PATCH -d '{{\"completed\": true}}'",
    ]


def welcome_to(base: str, database: str, to_try: list[str]) -> str:
    """What a person who has just started it reads.

    Args:
        base: the service's URL.
        database: where its data is, in words.
        to_try: lines to paste, under their headings.
    """
    lines = [
        "",
        f"Twofold is at {base}",
        "",
        *(f"  {name:10}  {base}{path}" for name, path in PAGES),
        f"  PostgreSQL  {database}",
        f"  Budgets     {_budgets()}",
        "",
        *(f"  {line}" for line in to_try),
        "",
        "Ctrl-C stops it. Changed files are reloaded.",
        "",
    ]
    return "\n".join(lines)


def _budgets() -> str:
    return "on Redis" if os.environ.get("REDIS_URL") else "in process"


class _Reload(StatReload):
    """uvicorn's, but it also ends when two signals come at once, and with its terminal."""

    on_terminal = False
    leaving = False

    def signal_handler(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's takes the lock of a threading.Event, and may meet itself there.
        self.leaving = True

    def pause(self) -> None:
        time.sleep(self.config.reload_delay)
        # A closed terminal tells its first process alone; make keeps that to itself.
        if self.leaving or (self.on_terminal and not os.isatty(0)):
            raise StopIteration


def _serve_with_reload(settings: Settings, listener: socket.socket, welcome: str) -> None:
    config = Config(
        "api.commands.dev:reloaded",
        reload=True,
        workers=1,
        reload_dirs=[str(ROOT / package) for package in PACKAGES],
        timeout_graceful_shutdown=2,
        # What the server says of itself is noise here; that it reloads is a warning already.
        **server_options(settings) | {"log_config": log_config(settings.log_level, "WARNING")},
    )
    os.environ["TWOFOLD_DEV"] = str(os.getpid())
    threading.Thread(target=_announce, args=(listener, welcome), daemon=True).start()
    reload = _Reload(config, target=Server(config).run, sockets=[listener])
    reload.on_terminal = os.isatty(0)
    reload.run()


def reloaded() -> FastAPI:
    """The app in a worker of `twofold dev`, which ends with it even if that is killed."""
    die_with_parent(int(os.environ["TWOFOLD_DEV"]), signal.SIGTERM)
    # Nobody's load balancer waits for this one to be gone, and somebody does for the next.
    return create_app(load(drain_seconds=0))


def _announce(listener: socket.socket, welcome: str) -> None:
    """Say welcome when the first worker answers, and what keeps it from serving."""
    address = urlsplit(_address(listener))
    host, port = str(address.hostname), address.port
    while _asked(host, port, "/health")[0] != 200:
        time.sleep(0.1)
    print(welcome, flush=True)
    status, body = _asked(host, port, "/health/ready")
    if status == 503:
        print(unready(body), flush=True)


def unready(body: bytes) -> str:
    """What a person reads whose service is not ready: the part that fails, and perhaps a remedy."""
    why = str(json.loads(body)["detail"]).removeprefix("Not ready: ")
    return f"Not ready yet: {why}\n"


def _asked(host: str, port: int | None, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer; the status is 0 where there is none."""
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
