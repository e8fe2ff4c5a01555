"""The HTTP of ``twofold serve``: uvicorn's httptools, with an end to headers and to patience.

The parser itself reads headers of any length, for as long as they come, and takes the trailers of
a chunked body for headers: identity could arrive after the proxy that checks it. Behind a request
to switch to another protocol, it takes the body for the next request, and any transfer coding for
none. And uvicorn waits for as long as a client likes, for the rest of its headers and for it to
read its answer, and leaves a client waiting that holds its body back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

MAX_HEADERS: Final = 64 * 1024
"""The most bytes that a request line and its headers may have together, but for one packet."""

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_INVALID: Final = "Invalid HTTP request received."
_CLOSE: Final = {"Connection": "close"}
_FRAMED_WRONGLY: Final = PlainTextResponse(_INVALID, 400, _CLOSE)
_CODED: Final = PlainTextResponse("No transfer coding but chunked is known here.", 501, _CLOSE)


class Protocol(HttpToolsProtocol):
    """uvicorn's, which answers 400 to longer headers and passes over trailers (RFC 9110, 6.5.1).

    It switches to no other protocol: who asks for one is answered in this (RFC 9110, 7.8).

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
        self._plain_head = b""
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
                self.send_400_response(_INVALID)
                return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except (HttpParserError, HttpParserUpgrade):
            # An upgrade still, without Upgrade: CONNECT. What follows is no HTTP, and is not read.
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)
            return
        # Most heads come in one piece, and need no timer.
        if self._in_headers and self._header_bytes and not self._head_timer:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _parse(self, data: bytes) -> None:
        """Parse, as if nobody had asked to switch to another protocol (RFC 9110, 7.8).

        After the headers of such a request the parser stops, for good: it can neither be told to
        go on to the body nor be trusted with what follows. Another takes over, from the same
        headers but for ``Upgrade``.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            else:
                return
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(self._plain_head)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; leave a trailer."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on to the body; if the parser would not, have these headers read again."""
        if self.parser.should_upgrade():
            self._plain_head = self._head_without_upgrade()
            return
        self._in_headers = False
        self._arrived()
        if refusal := self._refusal():
            # Whatever else comes on this connection: it is closed after this answer.
            self.app = refusal
        super().on_headers_complete()
        if self.expect_100_continue:
            _close_unless_asked(self.cycle)

    def on_message_complete(self) -> None:
        """Go on to the next request."""
        if self.parser.should_upgrade():
            # Only its headers are: they are read again, and its body is still to come.
            return
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_complete()

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _refusal(self) -> PlainTextResponse | None:
        """What to answer where a body is coded in a way not known here (RFC 9112, 6.1)."""
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if not codings:
            return None
        if self.parser.get_http_version() != "1.1":
            return _FRAMED_WRONGLY
        return None if b",".join(codings).strip().lower() == b"chunked" else _CODED

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


def _close_unless_asked(cycle: RequestResponseCycle) -> None:
    """Close after an answer that a client gets in place of 100 (Continue) (RFC 9110, 10.1.1).

    Whether its body still comes is its own choice: its next bytes may be that, or a request.
    """
    send = cycle.send

    async def send_and_close(message: ASGISendEvent) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_and_close  # type: ignore[method-assign]
