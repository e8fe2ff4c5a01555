"""Clients that read their responses too slowly, or not at all."""

from __future__ import annotations

import asyncio


class UnreadResponses:
    """Aborts a connection whose client reads nothing of a response, or reads it too slowly.

    Args:
        transport: of the connection.
        seconds: after which a client that has read nothing is disconnected.
        rate: bytes a second that it has to read after that time.
    """

    __slots__ = (
        "_loop",
        "_rate",
        "_read",
        "_seconds",
        "_slow_since",
        "_timer",
        "_transport",
        "_unread",
    )

    def __init__(self, transport: asyncio.Transport, seconds: float, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._seconds = seconds
        self._rate = rate
        self._slow_since = 0.0  # When this response first waited for its client; 0 if it never did.
        self._read = 0  # Bytes that the client has read since.
        self._unread = 0  # Bytes that it had not read when the timer was started.
        self._timer: asyncio.TimerHandle | None = None

    def begin_response(self) -> None:
        """Count from now on for the next response."""
        self._slow_since = 0.0
        self._read = 0

    def watch(self) -> None:
        """Start to watch, if the client has not read everything that is written."""
        self.stop()
        self._unread = self._transport.get_write_buffer_size()
        if self._unread:
            self._slow_since = self._slow_since or self._loop.time()
            if self._is_too_slow():
                self._transport.abort()
            else:
                self._timer = self._loop.call_later(self._seconds, self._check)

    def stop(self) -> None:
        """Stop watching, until the next call of ``watch``."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
            self._read += max(0, self._unread - self._transport.get_write_buffer_size())

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() < self._unread:
            self.watch()
        else:
            self._transport.abort()

    def _is_too_slow(self) -> bool:
        seconds = self._loop.time() - self._slow_since - self._seconds
        return self._read < seconds * self._rate
