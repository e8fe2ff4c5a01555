"""The HTTP of ``twofold serve``: uvicorn's httptools, with an end to headers and to patience.

The parser itself reads headers of any length, for as long as they come, and takes the trailers of
a chunked body for headers: identity could arrive after the proxy that checks it. And uvicorn waits
for as long as a client likes, for the rest of its headers and for it to read its answer.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADERS: Final = 64 * 1024
"""The most bytes that a request line and its headers may have together, but for one packet."""

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """uvicorn's, which answers 400 to longer headers and passes over trailers (RFC 9110, 6.5.1).

    Headers that take too long are answered 408; a connection on which nothing is asked is closed
    as one that is kept alive; and one whose client reads nothing of its answer is cut.
    """

    head_seconds: ClassVar[float] = 10.0
    """How long a request line and its headers may take to arrive."""

    unread_seconds: ClassVar[float] = 20.0
    """How long a client may read nothing of what waits for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers = True
        self._header_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request no longer than for the next."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._unset_keepalive_if_required()
        self._arrived()
        self._stop_watching()
        super().connection_lost(exc)

    # --- Reading ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read what came, unless it is still headers after too much of them."""
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADERS + len(data):
                self.send_400_response("Invalid HTTP request received.")
                return
        super().data_received(data)
        # Most heads come in one piece, and need no timer.
        if self._in_headers and self._header_bytes and not self._head_timer:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; leave a trailer."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._in_headers = False
        self._arrived()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Go on to the next request."""
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_complete()

    def _arrived(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            # The request before is still being answered: not into that.
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        elif not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
            self._watch()

    # --- Writing ------------------------------------------------------------------------------

    def timeout_keep_alive_handler(self) -> None:
        """Close, once the client has read its answer."""
        super().timeout_keep_alive_handler()
        self._watch()

    def pause_writing(self) -> None:
        """Wait until the client has read some of its answer."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: it reads."""
        self._stop_watching()
        super().resume_writing()
        if self.transport.is_closing():
            self._watch()

    def _watch(self) -> None:
        """Cut the connection when nothing more of what waits has been read in a while."""
        self._stop_watching()
        self._unread = self.transport.get_write_buffer_size()
        if self._unread:
            self._unread_timer = self.loop.call_later(self.unread_seconds, self._look)

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread:
            self._watch()
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._unread_timer:
            self._unread_timer.cancel()
            self._unread_timer = None
