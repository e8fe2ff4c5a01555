"""`twofold dev`: serve with reload, on an embedded PostgreSQL and Valkey unless others are set."""

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
from collections.abc import Iterable, Iterator
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
from api.commands.errors import CommandError
from api.commands.migrate import DATABASE_ERRORS, upgrade
from api.commands.serve import server_options
from api.dotenv import read_variable
from api.server.interrupts import accept_interrupts, do_nothing, interrupts_deferred
from api.server.listener import base_url, listening
from api.settings import Settings, load
from api.telemetry.log_lines import log_config
from persistence.embedded import demo
from persistence.embedded.errors import EmbeddedError, describe
from persistence.embedded.postgres import Postgres, postgres
from persistence.embedded.private_files import read_or_create
from persistence.embedded.processes import die_with_parent
from persistence.embedded.valkey import valkey
from persistence.sessions.tokens import hash_token

ROOT: Final = Path(__file__).parent.parent.parent
PACKAGES: Final = ("api", "graphql_schema", "persistence", "rest")

# In the current folder.
DATA: Final = Path(".data")

# The pages that the welcome message names, in this order.
PAGES: Final = (("GraphiQL", "/graphql"), ("API docs", "/docs"))


def dev(parent: int | None) -> None:
    """Serve until a signal stops the process.

    If ``DATABASE_URL`` is set, that database is used, and it is not migrated.

    Args:
        parent: the process id of the parent, with which this process ends, even if it is killed.

    Raises:
        SettingsError: the settings are invalid.
        CommandError: an embedded server cannot run.
        AddressError: the address cannot be listened on.
    """
    _handle_signals(parent)
    try:
        if read_variable("DATABASE_URL"):
            _serve_on_configured_database()
        else:
            with postgres(DATA / "postgres") as server, _embedded_valkey():
                _serve_on_embedded(server)
    except EmbeddedError as error:
        raise CommandError(str(error)) from None


@contextmanager
def _embedded_valkey() -> Iterator[None]:
    """Set ``REDIS_URL`` to an embedded Valkey, if it is not set and Valkey runs on this machine."""
    with ExitStack() as stack:
        if not read_variable("REDIS_URL"):
            with suppress(EmbeddedError):
                os.environ["REDIS_URL"] = stack.enter_context(valkey()).url
        yield


def _handle_signals(parent: int | None) -> None:
    """Stop the servers and exit on SIGTERM, on SIGHUP, and when ``parent`` ends."""
    signal.signal(signal.SIGTERM, _exit)
    if sys.platform != "win32":
        # uvicorn handles SIGTERM, but not SIGHUP.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if parent:
        die_with_parent(parent, signal.SIGTERM)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    # The exception leaves every `with` block, which stops the servers; a second signal must not
    # interrupt that.
    signal.signal(signal.SIGTERM, do_nothing)
    raise SystemExit(128 + number)


def _serve_on_configured_database() -> None:
    settings = load()
    with listening(settings.host, settings.port) as listener:
        base, database = _base_url(listener), "the one in DATABASE_URL"
        message = welcome_message(base, database, [], pages(settings))
        _serve_with_reload(settings, listener, message)


def _serve_on_embedded(server: Postgres) -> None:
    try:
        token = read_or_create(
            server.home / "demo_token", lambda: f"demo_{secrets.token_urlsafe(24)}"
        )
        secret = read_variable("SESSION_HASH_SECRET") or read_or_create(
            server.home / "session_hash_secret", lambda: secrets.token_urlsafe(48)
        )
    except OSError as error:
        raise CommandError(f"A secret cannot be kept: {describe(error)}.") from None
    # In the environment, because the worker process reads its settings there.
    os.environ |= {
        "ENVIRONMENT": "development",
        "DATABASE_URL": server.url("twofold"),
        "SESSION_STORE": "hashed",
        "SESSION_TABLE": "user_sessions",
        "SESSION_HASH_SECRET": secret,
    }
    settings = load()
    with listening(settings.host, settings.port) as listener:
        set_demo_token(token, listener)
        task = _prepare_database(server, hash_token(secret.encode(), token.encode()))
        base = _base_url(listener)
        examples = _examples(base, token, task)
        message = welcome_message(base, _data_location(server), examples, pages(settings))
        _serve_with_reload(settings, listener, message)


def _prepare_database(server: Postgres, token_hash: str) -> int:
    """Create, migrate and fill the database. Returns the id of a task of the demo user."""
    try:
        asyncio.run(demo.create_database(server.url(), "twofold"))
        upgrade(server.url("twofold"))
        return asyncio.run(demo.seed(server.url("twofold"), token_hash))
    except DATABASE_ERRORS as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CommandError(
            f"The database in {server.home} cannot be used: {reason}. To begin anew, move that"
            " folder away."
        ) from None


def set_demo_token(token: str, listener: socket.socket) -> None:
    """Set ``DEMO_TOKEN``, which GraphiQL shows, only if no other machine can reach the listener."""
    os.environ.pop("DEMO_TOKEN", None)
    if ip_address(listener.getsockname()[0]).is_loopback:
        os.environ["DEMO_TOKEN"] = token


def _base_url(listener: socket.socket) -> str:
    """The URL at which this machine reaches a listener."""
    return base_url(listener).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _data_location(server: Postgres) -> str:
    if server.home.is_relative_to(Path.cwd()):
        return f"embedded, data in {server.home.relative_to(Path.cwd())}"
    return f"embedded, data in {server.home} (runs as nobody, who cannot reach {DATA.resolve()})"


def _examples(base: str, token: str, task: int) -> list[str]:
    authorization = f"-H 'Authorization: Bearer {token}'"
    json = "-H 'Content-Type: application/json'"
    # The line feed puts the next prompt on its own line.
    curl = rf"curl -w '\n' {base}/tasks"
    return [
        "List your tasks:",
        f"  {curl} {authorization}",
        "Add one:",
        f'  {curl} {authorization} {json} -d \'{{"title": "Water the plants"}}\'',
        f"Complete task {task}:",
        f"  {curl}/{task} {authorization} {json} -X PATCH -d '{{\"completed\": true}}'",
    ]


def pages(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The names and paths of the pages that are served with these settings."""
    return PAGES if settings.has_pages else ()


def welcome_message(
    base: str, database: str, examples: list[str], pages: Iterable[tuple[str, str]] = PAGES
) -> str:
    """The message that is printed when the service answers.

    Args:
        base: the service's URL.
        database: a description of the database.
        examples: commands to paste, each after a line that explains it.
        pages: names and paths of pages.
    """
    lines = [
        "",
        f"Twofold is at {base}",
        "",
        *(f"  {name:10}  {base}{path}" for name, path in pages),
        f"  PostgreSQL  {database}",
        f"  Budgets     {_budget_location()}",
        "",
        *(f"  {line}" for line in examples),
        "",
        "Ctrl-C stops it. Changed files are reloaded.",
        "",
    ]
    return "\n".join(lines)


def _budget_location() -> str:
    return "on Redis" if os.environ.get("REDIS_URL") else "in process"


class _Reload(StatReload):
    """uvicorn's reloader, which also ends on simultaneous signals and when its terminal closes."""

    has_terminal = False
    is_stopping = False

    def startup(self) -> None:
        with interrupts_deferred():
            super().startup()

    def restart(self) -> None:
        with interrupts_deferred():
            super().restart()

    def signal_handler(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's handler sets a threading.Event. A second signal during that would wait for ever
        # for the lock that the first one holds.
        self.is_stopping = True

    def pause(self) -> None:
        time.sleep(self.config.reload_delay)
        # A closed terminal sends SIGHUP to its first process only; make does not pass it on.
        if self.is_stopping or (self.has_terminal and not os.isatty(0)):
            raise StopIteration


def _serve_with_reload(settings: Settings, listener: socket.socket, message: str) -> None:
    config = Config(
        "api.commands.dev:app",
        reload=True,
        workers=1,
        reload_dirs=[str(ROOT / package) for package in PACKAGES],
        timeout_graceful_shutdown=2,
        # uvicorn's own messages are hidden, except for reloads, which are warnings.
        **server_options(settings) | {"log_config": log_config(settings, "WARNING")},
    )
    os.environ["TWOFOLD_DEV"] = str(os.getpid())
    threading.Thread(target=_announce, args=(listener, message), daemon=True).start()
    reload = _Reload(config, target=Server(config).run, sockets=[listener])
    reload.has_terminal = os.isatty(0)
    reload.run()


def app() -> FastAPI:
    """The app in the worker process, which ends with `twofold dev`, even if that is killed."""
    accept_interrupts()
    die_with_parent(int(os.environ["TWOFOLD_DEV"]), signal.SIGTERM)
    # There is no load balancer to wait for, and a person waits for the reload.
    return create_app(load(drain_seconds=0))


def _announce(listener: socket.socket, message: str) -> None:
    """Print the message when the worker answers, and then the reason if it is not ready."""
    address = urlsplit(_base_url(listener))
    host, port = str(address.hostname), address.port
    while _get(host, port, "/health")[0] != 200:
        time.sleep(0.1)
    print(message, flush=True)
    status, body = _get(host, port, "/health/ready")
    if status == 503:
        print(unready_message(body), flush=True)


def unready_message(body: bytes) -> str:
    """A sentence from a 503 response of ``/health/ready``: what fails and, if known, a remedy."""
    reason = str(json.loads(body)["detail"]).removeprefix("Not ready: ")
    return f"Not ready yet: {reason}\n"


def _get(host: str, port: int | None, path: str) -> tuple[int, bytes]:
    """The status and the body of a response; the status is 0 if there is no response."""
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
