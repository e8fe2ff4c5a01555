"""The HTTP of ``twofold serve``: uvicorn's httptools protocol, with a bound and a deadline for all.

What uvicorn and the parser leave open, and this closes: headers, chunk extensions and trailers of
any length; any number of pipelined requests; clients that never finish a request or never read an
answer; trailers taken for headers (identity could arrive after the proxy that checks it); a body
taken for the next request behind a request to switch protocols; transfer codings taken for none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.server.connections import INVALID_REQUESTS, REFUSED_CONNECTIONS, descriptors_for_clients
from api.server.flow import Flow, close_unless_asked
from api.server.framing import INVALID, head_without_upgrade, refusal, with_authority

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEADERS: Final = 64 * 1024
"""The most bytes of one message that are not its body: request line, headers, chunk sizes and
their extensions, trailers. In one packet (up to 256 KiB) there may be more."""

MAX_PIPELINED: Final = 16
"""The most requests of one connection that wait for the answer to the one before them."""

MAX_UNUSED: Final = 1024 * 1024
"""The most bytes of a body that are read, and thrown away, after its request was answered."""

_HEAD_END: Final = b"\r\n\r\n"  # The parser takes no line feed without a carriage return.

_PIECES: Final = 64
"""Pieces of a packet that are parsed in one turn of the event loop, at most."""

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also bounds what a client sends, and how long it may take.

    It answers 400 to what is not HTTP, after the answers that are due before, and 505 to other
    versions than 1.0 and 1.1. It passes over trailers (RFC 9110, 6.5.1) and switches to no other
    protocol: the request is answered in this one (RFC 9110, 7.8). A connection for which no file
    descriptor is left is answered 503 and closed.
    """

    head_seconds: ClassVar[float] = 10.0
    """How long a request line and its headers may take to arrive."""

    body_seconds: ClassVar[float] = 10.0
    """How long the rest of a body may take to arrive, after its request was answered."""

    unread_seconds: ClassVar[float] = 20.0
    """How long a client may read nothing of what waits for it."""

    unread_rate: ClassVar[float] = 4096.0
    """Bytes a second that a client has to read of what waits for it, after ``unread_seconds``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Reading
        self._packet = b""  # The rest of one that was parsed in part.
        self._at = 0  # Where in it parsing goes on.
        self._reading_on: asyncio.Handle | None = None
        self._is_refused = False
        self._in_headers = True
        self._begun = False  # The request whose headers are being read.
        self._framing = 0  # Bytes of the message so far that are not its body.
        self._unused = 0  # Bytes of its body after its answer.
        self._body_left = 0  # Bytes of a body of known length that are still to come.
        self._plain_head = b""
        self._arrival_timer: asyncio.TimerHandle | None = None
        # Writing
        self._answered: RequestResponseCycle | None = None  # The one that is, or was last.
        self._slow_since = 0.0  # When this answer first waited for its client; 0 if it never did.
        self._taken = 0  # Bytes that the client has read since.
        self._unread = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request no longer than for the next."""
        most = descriptors_for_clients()
        place = transport.get_extra_info("socket")
        if most is not None and place.fileno() >= most:
            REFUSED_CONNECTIONS.happened(f"{most} file descriptors are in use, no more are for it")
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self.flow = Flow(transport, self.must_not_read)
        self._keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more, and tell every request that its client is gone."""
        self._unset_keepalive_if_required()
        self._stop_arrival_timer()
        self._stop_watching()
        self._drop_packet()
        for cycle in (self._answered, *(cycle for cycle, _ in self.pipeline)):
            if cycle and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Close, which the transport does, once the client has read its answer."""
        self._watch()

    def shutdown(self) -> None:
        """Answer what is being answered, and close."""
        self._drop_packet()
        super().shutdown()
        self._watch()

    # --- Reading ------------------------------------------------------------------------------

    def must_not_read(self) -> bool:
        """Whether enough of what was read still waits to be used, or no more is of use."""
        cycle = self.cycle
        return bool(
            self._packet
            or self.pipeline
            or self._is_refused
            or (cycle and len(cycle.body) > HIGH_WATER_LIMIT and not cycle.response_complete)
        )

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, in pieces where it may hold too many requests."""
        self._unset_keepalive_if_required()
        if not self._is_refused:
            self._packet += data  # A rest is only there while reading is paused.
            self._read_on()

    def _read_on(self) -> None:
        self._reading_on = None
        for _ in range(_PIECES):
            self._feed(self._next_piece())
            if self._is_refused or self.transport.is_closing():
                self._drop_packet()
            if self.pipeline or not self._packet:
                break
        if not self._packet:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()
            if not self.pipeline:
                self._reading_on = self.loop.call_soon(self._read_on)
        self._start_arrival_timer()

    def _next_piece(self) -> bytes:
        """What can be parsed without more requests in it than may wait."""
        packet, start = self._packet, self._at
        end = start + self._body_left
        for _ in range(MAX_PIPELINED):
            end = packet.find(_HEAD_END, end) + len(_HEAD_END)
            if end < len(_HEAD_END) or end == len(packet):
                self._packet, self._at = b"", 0
                return packet[start:] if start else packet
        self._at = end
        return packet[start:end]

    def _feed(self, piece: bytes) -> None:
        self._framing += len(piece)
        try:
            self._parse(piece)
        except (HttpParserError, HttpParserUpgrade):
            # An upgrade still, without Upgrade: CONNECT. What follows is no HTTP, and is not read.
            self._refuse("what arrived is not HTTP/1.1")
        else:
            if self._framing > MAX_HEADERS:
                self._refuse(f"more than {MAX_HEADERS} bytes of headers, chunk sizes or trailers")
            elif self._unused > MAX_UNUSED:
                self._close()

    def _parse(self, data: bytes) -> None:
        """Parse, as if nobody had asked to switch to another protocol (RFC 9110, 7.8).

        After the headers of such a request the parser stops, for good: it can neither be told to
        go on to the body nor be trusted with what follows. Another takes over, from the same
        headers but for ``Upgrade``.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
            else:
                return
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(self._plain_head)
            if not rest:
                return

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; leave a trailer."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on to the body; if the parser would not, have these headers read again."""
        version = self.parser.get_http_version()
        if self.parser.should_upgrade():
            self._plain_head = head_without_upgrade(
                self.parser.get_method(), self.url, version, self.headers
            )
            return
        self._in_headers = False
        self._stop_arrival_timer()
        if refused := refusal(self.parser.get_method(), self.url, version, self.headers):
            # Whatever else comes on this connection: it is closed after this answer.
            self.app = refused
            self.url = b"/"
        elif self.url[:1] != b"/":
            self.url = with_authority(self.url, self.headers)
        for name, value in self.headers:
            if name == b"content-length":
                self._body_left = int(value)
        super().on_headers_complete()
        if self.expect_100_continue:
            close_unless_asked(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body; of one whose request was answered, its length."""
        # Of a packet that began with another message, no more than all is taken off.
        self._framing = max(0, self._framing - len(body))
        self._body_left = max(0, self._body_left - len(body))
        if self.cycle.response_complete:
            self._unused += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on to the next request."""
        if self.parser.should_upgrade():
            # Only its headers are: they are read again, and its body is still to come.
            return
        self._in_headers = True
        self._begun = False
        self._framing = self._unused = self._body_left = 0
        self._stop_arrival_timer()
        super().on_message_complete()

    def _refuse(self, reason: str) -> None:
        """Read nothing more, and answer 400 after the answers that are due."""
        INVALID_REQUESTS.happened(reason)
        self._is_refused = True
        self._stop_arrival_timer()
        self.flow.pause_reading()
        if not self._in_headers and not self.cycle.response_complete:
            # The rest of its body cannot be read.
            if self.cycle is self._answered:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            else:
                self.pipeline.popleft()
        if not self._is_answering():
            self._answer_refused()

    def _answer_refused(self) -> None:
        answered = self._answered
        if answered and answered.response_started and not answered.response_complete:
            self._close()  # Not into an answer that was begun.
        elif not self.transport.is_closing():
            self.send_400_response(INVALID)
            self._watch()

    def _drop_packet(self) -> None:
        self._packet, self._at = b"", 0
        if self._reading_on:
            self._reading_on.cancel()
            self._reading_on = None

    # --- What the client still owes -----------------------------------------------------------

    def _is_answering(self) -> bool:
        cycle = self._answered
        return bool(cycle and not cycle.response_complete and not cycle.disconnected)

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _start_arrival_timer(self) -> None:
        """Time the rest of a head, or of a body whose request was answered.

        Not while a request before is being answered; the app itself times a body that it reads.
        """
        if self._is_answering() or self._arrival_timer or self.transport.is_closing():
            return
        if not self._in_headers:
            self._arrival_timer = self.loop.call_later(self.body_seconds, self._close)
        elif self._begun or self._framing:
            self._arrival_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        elif not self.timeout_keep_alive_task:
            self._keep_alive()

    def _stop_arrival_timer(self) -> None:
        if self._arrival_timer:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self._close()

    # --- Writing ------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        self._slow_since = 0.0
        self._taken = 0
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Answer the request that waits next; when none does, read on."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._drop_packet()
            self._watch()
        elif not self.pipeline:
            if self._packet and not self._reading_on:
                self._reading_on = self.loop.call_soon(self._read_on)
            self.flow.resume_reading()
            if self._is_answering():
                return
            if self._is_refused:
                self._answer_refused()
            self._start_arrival_timer()

    def _close(self) -> None:
        """Close, once the client has read what waits for it."""
        self.transport.close()
        self._watch()

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
        """Cut the connection when what waits is not read, or is read too slowly."""
        self._stop_watching()
        self._unread = self.transport.get_write_buffer_size()
        if self._unread:
            self._slow_since = self._slow_since or self.loop.time()
            if self._is_read_too_slowly():
                self.transport.abort()
            else:
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
            self._taken += max(0, self._unread - self.transport.get_write_buffer_size())

    def _is_read_too_slowly(self) -> bool:
        seconds = self.loop.time() - self._slow_since - self.unread_seconds
        return self._taken < seconds * self.unread_rate
