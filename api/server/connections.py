"""What all connections of a process share: file descriptors, and bounded log lines."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import ClassVar, Final

RESERVED_DESCRIPTORS: Final = 128
"""File descriptors that clients may not use, for PostgreSQL, Redis, the log and files. If the limit
is below twice as many, half of the limit."""

_log = logging.getLogger("twofold")


def descriptors_for_clients() -> int | None:
    """The file descriptor from which on a client is refused; ``None`` without a limit.

    The operating system assigns the lowest free number, so the number of a new connection shows
    how many descriptors are in use.
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

    Writes one line at the first event, with the reason; one every ``seconds`` while events go on;
    one when there was none for ``seconds``.

    Args:
        name: the name of the event, with which each line begins.
    """

    seconds: ClassVar[float] = 10.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._total = 0
        self._recent = 0

    def record(self, reason: str) -> None:
        """Count one event."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._began = time.monotonic()
            self._total = self._recent = 0
            _log.warning("%s: %s", self._name, reason)
            loop.call_later(self.seconds, self._summarize)
        self._total += 1
        self._recent += 1

    def _summarize(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            return  # The timer of an event loop that has ended.
        elapsed = time.monotonic() - self._began
        if self._recent:
            _log.warning("%s: %d times in %.0f s", self._name, self._total, elapsed)
            self._recent = 0
            self._loop.call_later(self.seconds, self._summarize)
        else:
            _log.warning("%s: over, after %d times in %.0f s", self._name, self._total, elapsed)
            self._loop = None


REFUSED_CONNECTIONS: Final = Episode("connections refused")
INVALID_REQUESTS: Final = Episode("invalid HTTP requests")
