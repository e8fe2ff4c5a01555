"""Measures the CPU of a request's log line: against no line, and against the standard library.

    python -m benchmarks.request_log [factor of the number of lines]

The lines go to a pipe that another process reads, as under systemd or Docker. The rounds of each
way alternate, so that a busy machine slows all of them.
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO, Final, cast

from pydantic import SecretStr

from api.rate_limit.response_slots import RequestSlots, ResponseSlots
from api.request import RequestContext
from api.settings import Environment, Settings
from api.telemetry.request_log import RequestLog
from persistence.viewer import Viewer

LINES: Final = 20_000
ROUNDS: Final = 7


def ways(pipe: BinaryIO) -> dict[str, Callable[[], None]]:
    """The ways to end a request, by name."""
    context = RequestContext("0af7651916cd43dd8448eb211c80319c", RequestSlots(ResponseSlots()))
    context.status, context.route = 200, "/tasks/{task_id}"
    context.viewer = Viewer("user 17", datetime.now(UTC))
    context.usage.add_statement("SELECT", 0.0, 0.001)
    scope = {"type": "http", "method": "GET", "path": "/tasks/17", "client": ("127.0.0.1", 5)}
    ours, silent = (RequestLog(_settings(level), pipe) for level in ("INFO", "WARNING"))
    standard = logging.Logger("standard")
    handler = logging.StreamHandler(os.fdopen(pipe.fileno(), "w", closefd=False))
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    standard.addHandler(handler)

    def write_standard() -> None:
        standard.info("%s %s %d %.1fms request_id=%s", "GET", "/tasks/17", 200, 1.5, "0af7651916cd")

    return {
        "no line": lambda: silent.write(scope, context, 0.0015),
        "the line": lambda: ours.write(scope, context, 0.0015),
        "standard library, six members": write_standard,
    }


def _settings(level: str) -> Settings:
    return Settings(
        _env_file=None,
        environment=Environment.TESTING,
        database_url=SecretStr("postgresql://nobody@127.0.0.1/nothing"),
        session_hash_secret=SecretStr("the secret of the benchmarks, of more than 32 characters"),
        log_level=level,
    )


def main(factor: float) -> None:
    """Print the microseconds of CPU for each way, the median of the rounds."""
    lines = int(LINES * factor)
    command = [sys.executable, "-c", "import sys\nwhile sys.stdin.buffer.read1(65536): pass"]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert reader.stdin
    samples: dict[str, list[float]] = {}
    with reader.stdin as pipe:
        for _ in range(ROUNDS):
            for name, write in ways(cast(BinaryIO, pipe)).items():
                began = time.process_time()
                for _ in range(lines):
                    write()
                taken = (time.process_time() - began) / lines
                samples.setdefault(name, []).append(taken * 1e6)
    reader.wait()
    for name, microseconds in samples.items():
        print(f"{name}: {statistics.median(microseconds):.1f} µs")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1)
