"""The command `twofold`: dev, serve, migrate, check. Each reads the environment when it is run."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from api.settings import Settings
    from persistence.embedded import Postgres

DATA = Path(".data")
PACKAGES = ("api", "graphql_schema", "persistence", "rest")

# Longer than proxies keep an idle connection (60 s is usual): the side that sends requests
# has to be the one that closes, or a request meets a closed door.
KEEP_ALIVE_SECONDS = 75

# Beside its work in the database, what a request may take that is being served when the server
# stops: 10 s for its body, and as long for a client that is slow to read the answer.
SLOW_CLIENT_SECONDS = 20

# How long a worker may take to start that is to replace another. uvicorn gives up after the 5 s in
# which one has to say that it lives, and so does a busy machine.
START_PATIENCE = 30

# How long a port may stay taken by what was just stopped.
PORT_PATIENCE = 2.0

# What a person who has just started it may want to open, in this order.
PAGES = (("GraphiQL", "/graphql"), ("API docs", "/docs"))


class Refusal(Exception):
    """Why a command cannot do its work: sentences for the terminal, and an exit code."""

    def __init__(self, *sentences: str, code: int = 1) -> None:
        self.sentences = sentences
        self.code = code
        super().__init__(*sentences)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    given = _parser().parse_args(arguments)
    try:
        given.command(given)
    except Refusal as refusal:
        print(*refusal.sentences, sep="\n", file=sys.stderr)
        return refusal.code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twofold", description="One task API with two doors.")
    commands = parser.add_subparsers(required=True, metavar="command")

    dev = commands.add_parser("dev", help="serve with reload; embedded PostgreSQL if none is given")
    dev.set_defaults(command=_dev)
    # Whose end is also ours, even if it is killed: make's process id.
    dev.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    serve = commands.add_parser("serve", help="serve as in production")
    serve.set_defaults(command=_serve)
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (PORT, 8000)")
    serve.add_argument("--workers", type=int, help="processes (WEB_CONCURRENCY, 1)")

    migrate = commands.add_parser("migrate", help="bring the database's schema up to date")
    migrate.set_defaults(command=_migrate)

    check = commands.add_parser("check", help="show the settings, and what is wrong with them")
    check.set_defaults(command=_check)
    return parser


def _given(name: str) -> str | None:
    """A variable as the settings find it: in the environment, else in `.env`; empty is unset."""
    from dotenv import dotenv_values

    return os.environ.get(name) or dotenv_values(".env").get(name) or None


def _load_settings() -> Settings:
    from api.settings import SettingsError, load

    try:
        return load()
    except SettingsError as error:
        problems = [f"  {problem}" for problem in error.problems]
        raise Refusal("The settings cannot be used:", *problems, code=2) from None


# --- check and migrate --------------------------------------------------------------------


def _check(_: argparse.Namespace) -> None:
    from api.settings import SettingsError, load

    problems: list[str] = []
    try:
        shown = load().masked()
    except SettingsError as error:
        problems = error.problems
        shown = _as_read()
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:{width}}  {value}".rstrip())
    print()
    if problems:
        raise Refusal(*problems)
    print("Nothing is wrong with these settings.")


def _as_read() -> dict[str, str]:
    """The settings as they were given, right or wrong, with what is secret masked."""
    from api.settings import Settings

    fields = {name.upper(): str(field.annotation) for name, field in Settings.model_fields.items()}
    return {
        name: "********" if value and "Secret" in annotation else value
        for name, annotation in fields.items()
        for value in [_given(name) or ""]
    }


def _migrate(_: argparse.Namespace) -> None:
    from persistence.urls import parse_database_url

    # Nothing but the database: a release step has no need of the service's secrets.
    url = _given("DATABASE_URL")
    if not url:
        raise Refusal("DATABASE_URL is not set: it names the database to migrate.", code=2)
    try:
        parse_database_url(url)
    except ValueError as error:
        raise Refusal(f"DATABASE_URL: {error}", code=2) from None
    _upgrade(url)
    print("The schema is up to date.")


def _upgrade(url: str) -> None:
    import asyncpg
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from persistence import migrations

    try:
        migrations.upgrade(url)
    except DBAPIError as error:
        raise Refusal(f"The database could not be migrated: {error.orig}") from None
    except migrations.CannotMigrate as error:
        raise Refusal(str(error)) from None
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, CommandError) as error:
        reason = str(error) or type(error).__name__
        raise Refusal(f"The database could not be migrated: {reason}") from None


# --- serve --------------------------------------------------------------------------------


def _serve(given: argparse.Namespace) -> None:
    import uvicorn

    # By way of the environment, so that every worker reads the same.
    for name in ("host", "port"):
        if getattr(given, name) is not None:
            os.environ[name.upper()] = str(getattr(given, name))
    settings = _load_settings()
    config = uvicorn.Config(
        "api.app:create_app",
        workers=_workers(given.workers),
        host=settings.host,
        port=settings.port,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(settings.request_deadline_seconds + SLOW_CLIENT_SECONDS),
        **_server_options(settings),
    )
    if config.workers > 1:
        _serve_with_workers(config)
    else:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()


def _serve_with_workers(config: uvicorn.Config) -> None:
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    class Workers(Multiprocess):
        """uvicorn's, but more patient, and a second signal ends the workers' drain as well."""

        def restart_all(self) -> None:
            usual = self.config.timeout_worker_healthcheck
            self.config.timeout_worker_healthcheck = START_PATIENCE
            super().restart_all()
            self.config.timeout_worker_healthcheck = usual

        def join_all(self) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.terminate_all())
            super().join_all()

    workers = Workers(config, [config.bind_socket()])
    workers.run()
    # Where none could start, uvicorn.run ends as if all were well.
    if any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes):
        raise SystemExit(STARTUP_FAILURE)


def _workers(given: int | None) -> int:
    workers = str(given or _given("WEB_CONCURRENCY") or 1)
    if not workers.isdecimal() or int(workers) < 1:
        raise Refusal(f"WEB_CONCURRENCY: {workers!r} is not a number of processes.", code=2)
    return int(workers)


def _server_options(settings: Settings) -> dict[str, Any]:
    return {
        "factory": True,
        "loop": "asyncio" if sys.platform == "win32" else "uvloop",
        "http": "api.protocol:Protocol",
        "ws": "none",
        "lifespan": "on",
        "server_header": False,
        # The app logs its requests itself, with their ids.
        "access_log": False,
        # uvicorn alone would believe anything that connects from this machine.
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "log_config": _log_config(settings.log_level),
    }


def _log_config(level: str, server_level: str | None = None) -> dict[str, Any]:
    """Everything to standard error, in one form; the server may be quieter than the rest."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s  %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "uvicorn": {"level": server_level or level},
            # SQLAlchemy's pool under our name; that it is disposed of is nobody's news.
            "persistence.turns": {"level": "WARNING"},
            # Lists its plugins whenever it is imported.
            "alembic.runtime.plugins": {"level": "WARNING"},
        },
    }


# --- dev ----------------------------------------------------------------------------------


def _dev(given: argparse.Namespace) -> None:
    from persistence import embedded

    _end_with(given.parent)
    try:
        if _given("DATABASE_URL"):
            _develop_on_given_database()
        else:
            with embedded.postgres(DATA / "postgres") as server, _shared_budget():
                _develop_on(server)
    except embedded.EmbeddedError as error:
        raise Refusal(str(error)) from None


@contextmanager
def _shared_budget() -> Iterator[None]:
    """Budgets on an embedded Valkey; in process where there is none for this machine."""
    from persistence import embedded

    with ExitStack() as stack:
        if not _given("REDIS_URL"):
            with suppress(embedded.EmbeddedError):
                os.environ["REDIS_URL"] = stack.enter_context(embedded.valkey()).url
        yield


def _end_with(parent: int | None) -> None:
    """Leave in order on SIGTERM, when the terminal closes, and when `parent` ends."""
    from persistence.processes import die_with_parent

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
    settings = _load_settings()
    with _listening(settings.host, settings.port) as listener:
        base = _address(listener)
        _serve_with_reload(settings, listener, _welcome(base, "the one in DATABASE_URL", []))


def _develop_on(server: Postgres) -> None:
    from persistence import demo, sessions
    from persistence.embedded import private_text

    token = private_text(server.home / "demo_token", lambda: f"demo_{secrets.token_urlsafe(24)}")
    secret = _given("SESSION_HASH_SECRET") or private_text(
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
    settings = _load_settings()
    with _listening(settings.host, settings.port) as listener:
        _hand_over(token, listener)
        asyncio.run(demo.create_database(server.url(), "twofold"))
        _upgrade(server.url("twofold"))
        token_hash = sessions.hash_token(secret.encode(), token.encode())
        task = asyncio.run(demo.seed(server.url("twofold"), token_hash))
        base = _address(listener)
        welcome = _welcome(base, _whereabouts(server), _things_to_try(base, token, task))
        _serve_with_reload(settings, listener, welcome)


def _hand_over(token: str, listener: socket.socket) -> None:
    """GraphiQL may show the demo token where nobody but this machine can ask for the page."""
    os.environ.pop("DEMO_TOKEN", None)
    if ip_address(listener.getsockname()[0]).is_loopback:
        os.environ["DEMO_TOKEN"] = token


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The address, taken once and for all workers."""
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.set_inheritable(True)
        deadline = time.monotonic() + PORT_PATIENCE
        while error := _bind(listener, host, port):
            # Perhaps a just stopped one is still answering its last request.
            if error.errno != errno.EADDRINUSE:
                raise Refusal(f"Cannot listen on {host}:{port}: {error.strerror}.")
            if time.monotonic() > deadline:
                raise Refusal(f"Port {port} of {host} is in use: stop what uses it, or set PORT.")
            time.sleep(0.1)
        yield listener


def _bind(listener: socket.socket, host: str, port: int) -> OSError | None:
    try:
        listener.bind((host, port))
    except OSError as error:
        return error
    return None


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


def _welcome(base: str, database: str, to_try: list[str]) -> str:
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


def _serve_with_reload(settings: Settings, listener: socket.socket, welcome: str) -> None:
    from uvicorn import Config, Server
    from uvicorn.supervisors.statreload import StatReload

    class Reload(StatReload):
        """uvicorn's, but it also ends when two signals come at once, and with its terminal."""

        on_terminal = os.isatty(0)
        leaving = False

        def signal_handler(self, sig: int, frame: FrameType | None) -> None:
            # uvicorn's takes the lock of a threading.Event, and may meet itself there.
            self.leaving = True

        def pause(self) -> None:
            time.sleep(self.config.reload_delay)
            # A closed terminal tells its first process alone; make keeps that to itself.
            if self.leaving or (self.on_terminal and not os.isatty(0)):
                raise StopIteration

    root = Path(__file__).parent.parent
    config = Config(
        "api.cli:reloaded",
        reload=True,
        reload_dirs=[str(root / package) for package in PACKAGES],
        timeout_graceful_shutdown=2,
        # What the server says of itself is noise here; that it reloads is a warning already.
        **_server_options(settings) | {"log_config": _log_config(settings.log_level, "WARNING")},
    )
    os.environ["TWOFOLD_DEV"] = str(os.getpid())
    threading.Thread(target=_announce, args=(listener, welcome), daemon=True).start()
    Reload(config, target=Server(config).run, sockets=[listener]).run()


def reloaded() -> FastAPI:
    """The app in a worker of `twofold dev`, which ends with it even if that is killed."""
    from api.app import create_app
    from api.settings import load
    from persistence.processes import die_with_parent

    die_with_parent(int(os.environ["TWOFOLD_DEV"]), signal.SIGTERM)
    # Nobody's load balancer waits for this one to be gone, and somebody does for the next.
    return create_app(load(drain_seconds=0))


def _announce(listener: socket.socket, welcome: str) -> None:
    """Say welcome when the first worker answers."""
    address = urlsplit(_address(listener))
    while not _answers(str(address.hostname), address.port):
        time.sleep(0.1)
    print(welcome, flush=True)


def _answers(host: str, port: int | None) -> bool:
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
