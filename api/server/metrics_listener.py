"""Answers ``GET /metrics`` for Prometheus, for all workers, on a port of its own.

In a thread of the process that starts the workers, or of the only one. A scrape that is slow, or
stops half-way, holds up later scrapes for ``SCRAPE_SECONDS``, and no request.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from api.server.listener import listening
from api.settings import Settings
from api.telemetry.series import FOLDER_VARIABLE, Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SCRAPE_SECONDS: Final = 2.0
"""Seconds that a scrape may take, whatever its client does."""

STOP_SECONDS: Final = 0.1
"""Seconds that the end of the process may wait for the listener, while nobody scrapes."""


@contextmanager
def metrics_served(settings: Settings) -> Iterator[None]:
    """Serve metrics during the block, if ``METRICS_PORT`` is set.

    Workers that start in the block count in a temporary folder.

    Raises:
        AddressError: the address cannot be listened on.
    """
    if settings.metrics_port is None:
        os.environ.pop(FOLDER_VARIABLE, None)
        yield
        return
    with (
        listening(settings.metrics_host, settings.metrics_port, "METRICS_") as listener,
        tempfile.TemporaryDirectory(prefix="twofold-metrics-") as folder,
    ):
        os.environ[FOLDER_VARIABLE] = folder
        server = _Server(listener, Collector(Path(folder)))
        serve = partial(server.serve_forever, poll_interval=STOP_SECONDS)
        thread = threading.Thread(target=serve, name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


class _Server(HTTPServer):
    """One scrape after another."""

    def __init__(self, listener: socket.socket, collector: Collector) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.collector = collector
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client has gone away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        # A time-out of the socket is one of each read: who sends a byte a second would never end.
        self._end = threading.Timer(SCRAPE_SECONDS, self._give_up)
        self._end.daemon = True
        self._end.start()
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._end.cancel()

    def _give_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body = self.server.collector.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "twofold"

    def log_message(self, *_: Any) -> None:
        """Say nothing: a scrape is no request of a client."""
