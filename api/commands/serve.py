"""`twofold serve`: run uvicorn as in production."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib.metadata import version
from math import ceil
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from api.commands.misspellings import misspellings
from api.dotenv import DotenvVariables
from api.server.interrupts import accept_interrupts
from api.server.listener import base_url, listening
from api.server.metrics_listener import metrics_served
from api.server.server import Server
from api.server.workers import Workers
from api.settings import Settings, load
from api.telemetry.log_lines import log_config

_log = logging.getLogger("twofold")

# Longer than proxies keep an idle connection (60 s is usual). If the server closed it first, a
# request that is under way at that moment would fail.
KEEP_ALIVE_SECONDS: Final = 75

# Time that a request may take in addition to its work in the database when the server stops: 10 s
# for its body, and 10 s for a client that reads the response slowly.
SLOW_CLIENT_SECONDS: Final = 20


def serve(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until a signal stops the process.

    Args:
        host: the address to listen on; None for ``HOST``.
        port: the port to listen on; None for ``PORT``.
        workers: the number of processes; None for ``WEB_CONCURRENCY``.

    Raises:
        SettingsError: the settings are invalid.
        AddressError: the address cannot be listened on.
    """
    # Through the environment, so that every worker reads the same values.
    for name, value in (("HOST", host), ("PORT", port), ("WEB_CONCURRENCY", workers)):
        if value is not None:
            os.environ[name] = str(value)
    dotenv = DotenvVariables()
    settings = dotenv.reload()
    with listening(settings.host, settings.port) as listener, metrics_served(settings):
        # SIGHUP does not change these.
        dotenv.pin(
            HOST=settings.host,
            PORT=str(settings.port),
            WEB_CONCURRENCY=str(settings.web_concurrency),
            METRICS_HOST=settings.metrics_host,
            METRICS_PORT=str(settings.metrics_port or ""),
        )
        config = _configure(settings)
        if config.workers > 1:
            _log.info("listening on %s", base_url(listener))
            if code := Workers(config, listener, dotenv, _configure).run():
                raise SystemExit(code)
        else:
            if sys.platform != "win32":
                # There is nothing to replace; the default would end the requests under way.
                signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            with suppress(KeyboardInterrupt):
                _Server(config).run([listener])


class _Server(Server):
    """A server that logs the address once it is served."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then listen."""
        await super().startup(sockets)
        for listener in sockets or ():
            _log.info("listening on %s", base_url(listener))


def app() -> FastAPI:
    """The app. Its settings come from the environment, where `.env` has been copied already."""
    # Imported here, because the parent process of several workers does not need the app.
    from api.app import create_app

    accept_interrupts()
    app = create_app(load(dotenv=False))
    _shorten_garbage_collection()
    return app


def _shorten_garbage_collection() -> None:
    """Exclude from garbage collection what exists now, which is needed as long as the process.

    A full collection of the modules, the schema and the app stops the event loop for 150 ms, and
    finds nothing. The thresholds are those with the shortest pauses while documents that fail
    validation are prepared, one after another: at most 35 ms, a fifth of the time in all. Higher
    ones collect less often, but then pause for 60 to 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 10)


def _configure(settings: Settings) -> uvicorn.Config:
    """Make uvicorn's configuration, set up logging, and log settings and misspelled names."""
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
    for note in misspellings():
        _log.warning("%s", note)
    return config


def server_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's options that `twofold dev` and `twofold serve` share."""
    return {
        "factory": True,
        "loop": "asyncio" if sys.platform == "win32" else "uvloop",
        "http": "api.server.uvicorn_protocol:Protocol",
        "ws": "api.server.websocket:WebSocketProtocol",
        "lifespan": "on",
        "server_header": False,
        # The app logs requests itself, with their ids.
        "access_log": False,
        # By default uvicorn trusts the forwarding headers of every local client.
        "proxy_headers": bool(settings.forwarded_allow_ips),
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "log_config": log_config(settings),
    }
