"""`twofold serve`: uvicorn as it runs in production."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from math import ceil
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from api.commands.lent import Lent
from api.commands.listener import require_free
from api.commands.terminal import usable
from api.commands.workers import Workers
from api.settings import Settings, load

_log = logging.getLogger("twofold")

# Longer than proxies keep an idle connection (60 s is usual): the side that sends requests
# has to be the one that closes, or a request meets a closed door.
KEEP_ALIVE_SECONDS: Final = 75

# Beside its work in the database, what a request may take that is being served when the server
# stops: 10 s for its body, and as long for a client that is slow to read the answer.
SLOW_CLIENT_SECONDS: Final = 20


def serve(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until told to stop; what is None is read from the environment.

    Raises:
        Refusal: the settings cannot be used, or nothing can listen where they say.
    """
    # By way of the environment, so that every worker reads the same.
    for name, value in (("HOST", host), ("PORT", port), ("WEB_CONCURRENCY", workers)):
        if value is not None:
            os.environ[name] = str(value)
    lent = Lent()
    settings = usable(lent.renew)
    require_free(settings.host, settings.port)
    # What no SIGHUP can change.
    lent.keep(
        HOST=settings.host,
        PORT=str(settings.port),
        WEB_CONCURRENCY=str(settings.web_concurrency),
    )
    config = _configured(settings)
    if config.workers > 1:
        _serve_with_workers(Workers(config, [config.bind_socket()], lent, _configured))
    else:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()


def app() -> FastAPI:
    """The app under the settings that its process was started with, of which `.env` is a part."""
    # Only now: the parent of the workers has no use for it.
    from api.app import create_app

    return create_app(load(_env_file=None))


def _configured(settings: Settings) -> uvicorn.Config:
    """Uvicorn's side of the settings; the log is set up, and its first line says all of them."""
    config = uvicorn.Config(
        "api.commands.serve:app",
        workers=settings.web_concurrency,
        host=settings.host.strip("[]"),
        port=settings.port,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(settings.request_deadline_seconds + SLOW_CLIENT_SECONDS),
        **server_options(settings),
    )
    chosen = ", ".join(f"{name}={value}" for name, value in settings.chosen().items())
    _log.info("twofold %s with %s", version("twofold"), chosen)
    return config


def _serve_with_workers(workers: Workers) -> None:
    workers.run()
    # Where none could start, uvicorn.run ends as if all were well.
    if any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes):
        raise SystemExit(STARTUP_FAILURE)


def server_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's options, as far as developing and production share them."""
    return {
        "factory": True,
        "loop": "asyncio" if sys.platform == "win32" else "uvloop",
        "http": "api.server.uvicorn_protocol:Protocol",
        "ws": "none",
        "lifespan": "on",
        "server_header": False,
        # The app logs its requests itself, with their ids.
        "access_log": False,
        # uvicorn alone would believe anything that connects from this machine.
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "log_config": log_config(settings.log_level),
    }


# The process tells the lines of several workers apart.
_LINE: Final = "%(asctime)s %(process)d %(levelname)-7s %(name)s  %(message)s"


def log_config(level: str, server_level: str | None = None) -> dict[str, Any]:
    """Everything to standard error, in one form; the server may be quieter than the rest."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": _LINE}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "uvicorn": {"level": server_level or level},
            # SQLAlchemy's pool under our name; that it is disposed of is nobody's news.
            "persistence.pool": {"level": "WARNING"},
            # Lists its plugins whenever it is imported.
            "alembic.runtime.plugins": {"level": "WARNING"},
        },
    }
