"""Measures what the log, metrics and traces cost a request: each beside a service without them.

    python -m benchmarks.telemetry [factor of the number of requests]

The services run at the same time and get the same requests in alternation, so that a busy machine
slows all of them. Lines go to a pipe that another process reads. Traces go to a collector that
takes them; the CPU of the thread that sends them counts. Without the factor, 1, it takes two
minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from benchmarks.client import drive
from benchmarks.operations import GET, list_of, message, on_task
from benchmarks.service import database, logging_service
from persistence.embedded.processes import free_port
from tests.operations import Api

MESSAGES: Final = {
    "get one": message(Api.REST, on_task(1)[GET]),
    "list of 50": message(Api.REST, list_of(50)),
    "GraphQL list of 50": message(Api.GRAPHQL, list_of(50)),
}

TIMES: Final = 2000
ROUNDS: Final = 7


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collector() -> Iterator[str]:
    """The URL of a collector that forgets what it gets."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main(factor: float) -> None:
    """Print a table: microseconds of CPU for each request, and the ratio to a silent service."""
    times = max(int(TIMES * factor), 8)
    read = [sys.executable, "-c", "import sys\nwhile sys.stdin.buffer.read1(65536): pass"]
    with ExitStack() as stack:
        data = stack.enter_context(database())
        endpoint = stack.enter_context(collector())
        reader = stack.enter_context(subprocess.Popen(read, stdin=subprocess.PIPE))
        ways: dict[str, dict[str, str]] = {
            "silent": {},
            "log": {"LOG_LEVEL": "INFO"},
            "metrics": {"METRICS_PORT": str(free_port())},
            "traces": {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        }
        services = {
            name: stack.enter_context(
                logging_service(data.url, reader.stdin, {"RATE_LIMIT_ENABLED": "false"} | settings)
            )
            for name, settings in ways.items()
        }
        print("| | " + " | ".join(f"{name} µs" for name in services) + " |")
        print("|---" * (len(services) + 1) + "|")
        for title, sent in MESSAGES.items():
            samples: dict[str, list[float]] = {name: [] for name in services}
            for _ in range(ROUNDS):
                for name, service in services.items():
                    before = service.cpu()
                    asyncio.run(drive(service.port, [sent], times))
                    samples[name].append((service.cpu() - before) / times * 1e6)
            least = statistics.median(samples["silent"])
            cells = [
                f"{statistics.median(each):.0f} ({statistics.median(each) / max(least, 1):.2f})"
                for each in samples.values()
            ]
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
