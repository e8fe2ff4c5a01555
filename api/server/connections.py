"""What all connections of a process share: its file descriptors, and bounded log lines."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import ClassVar, Final

RESERVED_DESCRIPTORS: Final = 128
"""File descriptors that clients' connections leave free, for those to PostgreSQL and to Redis, for
the log and for files. Where the limit is below twice as many, half of the limit."""

_log = logging.getLogger("twofold")


def descriptors_for_clients() -> int | None:
    """File descriptors that may be in use when another client connects; ``None`` without a limit.

    The operating system gives out the lowest free number, so the number of a new connection says
    how many are in use.
    """
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - min(RESERVED_DESCRIPTORS, limit // 2)


class Episode:
    """Logs an event that a client can cause thousands of times a second.

    One line when it begins, with the reason; one every ``seconds`` while it goes on; one when it
    did not happen for ``seconds``.

    Args:
        name: of the event, as the lines begin.
    """

    seconds: ClassVar[float] = 10.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._total = 0
        self._recent = 0

    def happened(self, reason: str) -> None:
        """Count one event."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._began = time.monotonic()
            self._total = self._recent = 0
            _log.warning("%s: %s", self._name, reason)
            loop.call_later(self.seconds, self._tell)
        self._total += 1
        self._recent += 1

    def _tell(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            return  # Of a loop that has ended.
        elapsed = time.monotonic() - self._began
        if self._recent:
            _log.warning("%s: %d times in %.0f s", self._name, self._total, elapsed)
            self._recent = 0
            self._loop.call_later(self.seconds, self._tell)
        else:
            _log.warning("%s: over, after %d times in %.0f s", self._name, self._total, elapsed)
            self._loop = None


REFUSED_CONNECTIONS: Final = Episode("connections refused")
INVALID_REQUESTS: Final = Episode("invalid HTTP requests")
