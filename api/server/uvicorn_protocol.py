"""uvicorn's httptools protocol, with limits on header size and on slow clients.

It also closes these gaps of uvicorn and its parser: chunk extensions and trailers of any length;
any number of pipelined requests; trailers treated as headers, so that a client could add identity
headers behind a proxy that checks them; the body of an upgrade request treated as the next request;
unknown transfer codings treated as none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.server import framing
from api.server.connections import INVALID_REQUESTS, REFUSED_CONNECTIONS, descriptors_for_clients
from api.server.cycle import Cycle
from api.server.flow import Flow, close_without_continue
from api.server.listener import as_ipv4
from api.server.unread import UnreadResponses
from api.server.websocket import WebSocketProtocol
from persistence.timers import LazyTimer

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEADERS: Final = 64 * 1024
"""The most bytes of one message outside its body: request line, headers, chunk sizes and their
extensions, trailers. One packet (up to 256 KiB) may exceed it."""

MAX_PIPELINED: Final = 16
"""The most requests of one connection that wait for the response to an earlier one."""

MAX_UNUSED: Final = 1024 * 1024
"""The most bytes of a body that are read and discarded after its request was answered."""

_HEAD_END: Final = b"\r\n\r\n"  # The parser takes no line feed without a carriage return.

_PIECES: Final = 64
"""The most pieces of a packet that are parsed at once."""

_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on what a client sends and on how long it may take.

    It answers 400 to anything that is not HTTP, after the responses to earlier requests, and 505
    to versions other than 1.0 and 1.1. It ignores trailers (RFC 9110, 6.5.1), and ``Upgrade`` to
    anything but a WebSocket: the request is answered in HTTP/1.1 (RFC 9110, 7.8). A connection
    beyond the file descriptors for clients is answered 503 and closed.
    """

    head_seconds: ClassVar[float] = 10.0
    """Seconds in which a request line and its headers have to arrive."""

    body_seconds: ClassVar[float] = 10.0
    """Seconds in which the rest of a body has to arrive, after its request was answered."""

    unread_seconds: ClassVar[float] = 20.0
    """Seconds after which a client that reads nothing of its response is disconnected."""

    unread_rate: ClassVar[float] = 4096.0
    """Bytes a second that a client has to read of its response, after ``unread_seconds``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Reading
        self._packet = b""  # The rest of a packet that was parsed in part.
        self._at = 0  # Where in the packet parsing continues.
        self._next_parse: asyncio.Handle | None = None
        self._is_refused = False
        self._in_headers = True
        self._begun = False  # Whether a request line has begun.
        self._idle = LazyTimer(self.loop, self._close)
        self._framing = 0  # Bytes of the current message outside its body.
        self._unused = 0  # Bytes of its body after its response.
        self._body_left = 0  # Bytes of a body of known length that are still to come.
        self._plain_head = b""
        self._socket: WebSocketProtocol | None = None
        self._arrival_timer: asyncio.TimerHandle | None = None
        # Writing
        self._answered: RequestResponseCycle | None = None  # The current cycle, or the last one.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Apply the keep-alive time-out to the first request, too."""
        self._unread = UnreadResponses(transport, self.unread_seconds, self.unread_rate)
        limit = descriptors_for_clients()
        socket = transport.get_extra_info("socket")
        if limit is not None and socket.fileno() >= limit:
            REFUSED_CONNECTIONS.record(f"{limit} file descriptors are in use, no more are for it")
            self.transport = transport
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self.client = as_ipv4(self.client)
        self.flow = Flow(transport, self.must_not_read)
        self._idle.start(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and mark every request as disconnected."""
        self._idle.close()
        self._stop_arrival_timer()
        self._unread.stop()
        self._drop_packet()
        for cycle in (self._answered, *(cycle for cycle, _ in self.pipeline)):
            if cycle and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The transport closes when the client has read its response."""
        self._unread.watch()

    def shutdown(self) -> None:
        """Finish the current response, then close."""
        self._drop_packet()
        super().shutdown()
        self._unread.watch()

    # --- Reading ------------------------------------------------------------------------------

    def must_not_read(self) -> bool:
        """Whether unprocessed data is left, or further data would not be used."""
        cycle = self.cycle
        return bool(
            self._packet
            or self.pipeline
            or self._is_refused
            or (cycle and len(cycle.body) > HIGH_WATER_LIMIT and not cycle.response_complete)
        )

    def data_received(self, data: bytes) -> None:
        """Parse a packet, in pieces."""
        self._idle.stop()
        if not self._is_refused:
            self._packet += data  # A rest is only there while reading is paused.
            self._parse_packet()

    def _parse_packet(self) -> None:
        self._next_parse = None
        for _ in range(_PIECES):
            self._feed(self._next_piece())
            if self._socket:  # It has taken over the connection.
                return
            if self._is_refused or self.transport.is_closing():
                self._drop_packet()
            if self.pipeline or not self._packet:
                break
        if not self._packet:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()
            if not self.pipeline:
                self._next_parse = self.loop.call_soon(self._parse_packet)
        self._start_arrival_timer()

    def _next_piece(self) -> bytes:
        """The next piece of the packet, with at most ``MAX_PIPELINED`` request heads."""
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
        except (HttpParserError, HttpParserUpgrade):  # The latter of CONNECT.
            self._refuse("what arrived is not HTTP/1.1")
        else:
            if self._framing > MAX_HEADERS:
                self._refuse(f"more than {MAX_HEADERS} bytes of headers, chunk sizes or trailers")
            elif self._unused > MAX_UNUSED:
                self._close()

    def _parse(self, data: bytes) -> None:
        """Parse, ignoring requests to switch to another protocol (RFC 9110, 7.8).

        The parser stops after the headers of such a request and cannot continue with its body. A
        new parser gets the same headers without ``Upgrade``, then the rest.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                if self._may_become_socket():
                    self._become_socket(bytes(rest) + self._packet[self._at :])
                    return
            else:
                return
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(self._plain_head)
            if not rest:
                return

    def _may_become_socket(self) -> bool:
        """Whether the request asks for a WebSocket, and nothing else is under way."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        is_busy = self._is_answering() or self.pipeline or self.flow.read_paused
        is_able = self.ws_protocol_class is WebSocketProtocol and self._framing <= MAX_HEADERS
        asks = framing.asks_for_websocket(method, self.url, version, self.headers)
        return is_able and asks and not is_busy

    def _become_socket(self, rest: bytes) -> None:
        self._stop_arrival_timer()
        self._idle.close()
        self._drop_packet()
        self.connections.discard(self)
        self._socket = WebSocketProtocol(self.config, self.server_state, self.app_state)
        self._socket.connection_made(self.transport)
        self.transport.set_protocol(self._socket)
        self._socket.begin(framing.head(b"GET", self.url, "1.1", self.headers), rest)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; ignore a trailer."""
        if self._in_headers:
            name = name.lower()
            self.headers.append((name, value))
            if name == b"content-length":
                self._body_left = int(value)
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Continue with the body; for an upgrade, prepare to parse the headers again."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if self.parser.should_upgrade():
            self._plain_head = framing.head_without_upgrade(method, self.url, version, self.headers)
            return
        self._in_headers = False
        self._stop_arrival_timer()
        if response := framing.refusal(method, self.url, version, self.headers):
            # The connection is closed after this response.
            self.app = response
            self.url = b"/"
        elif self.url[:1] != b"/":
            self.url = framing.with_authority(self.url, self.headers)
        framing.complete_scope(self.scope, method, self.url, version)
        self._begin_cycle(keep_alive=version != "1.0" and self.parser.should_keep_alive())
        if self.expect_100_continue:
            close_without_continue(self.cycle)

    def _begin_cycle(self, *, keep_alive: bool) -> None:
        """Start the request whose headers are complete, or let it wait for the ones before."""
        before = self.cycle
        self.cycle = Cycle(self, self._close, keep_alive=keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Store a part of a body; if its request was answered, only count it."""
        # Not below 0: the packet may have started with another message.
        self._framing = max(0, self._framing - len(body))
        self._body_left = max(0, self._body_left - len(body))
        if self.cycle.response_complete:
            self._unused += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Continue with the next request."""
        if self.parser.should_upgrade():
            # Only its headers are complete: they are parsed again, and its body follows.
            return
        self._in_headers = True
        self._begun = False
        self._framing = self._unused = self._body_left = 0
        self._stop_arrival_timer()
        super().on_message_complete()

    def _refuse(self, reason: str) -> None:
        """Stop reading, and answer 400 after the responses to earlier requests."""
        INVALID_REQUESTS.record(reason)
        self._is_refused = True
        self._stop_arrival_timer()
        self.flow.pause_reading()
        if not self._in_headers and not self.cycle.response_complete:
            # The rest of the body cannot be parsed.
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
            self._close()  # A response that has started cannot become a 400.
        elif not self.transport.is_closing():
            self.send_400_response(framing.INVALID)
            self._unread.watch()

    def _drop_packet(self) -> None:
        self._packet, self._at = b"", 0
        if self._next_parse:
            self._next_parse.cancel()
            self._next_parse = None

    # --- Time-outs ------------------------------------------------------------------------------

    def _is_answering(self) -> bool:
        cycle = self._answered
        return bool(cycle and not cycle.response_complete and not cycle.disconnected)

    def _start_arrival_timer(self) -> None:
        """Start the time-out for the rest of a head, or of a body whose request was answered.

        Not while an earlier request is being answered. The app itself limits the time of a body
        that it reads.
        """
        if self._is_answering() or self._arrival_timer or self.transport.is_closing():
            return
        if not self._in_headers:
            self._arrival_timer = self.loop.call_later(self.body_seconds, self._close)
        elif self._begun or self._framing:
            self._arrival_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        elif not self._idle.is_running:
            self._idle.start(self.timeout_keep_alive)

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
        self._unread.begin_response()
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Start the next waiting request; if there is none, resume reading."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._drop_packet()
            self._unread.watch()
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if not self.pipeline:
            if self._packet and not self._next_parse:
                self._next_parse = self.loop.call_soon(self._parse_packet)
            self.flow.resume_reading()
            if self._is_answering():
                return
            if self._is_refused:
                self._answer_refused()
            self._start_arrival_timer()

    def _close(self) -> None:
        """Close when the client has read what is written."""
        self.transport.close()
        self._unread.watch()

    def pause_writing(self) -> None:
        """Stop writing until the client has read some of its response."""
        super().pause_writing()
        self._unread.watch()

    def resume_writing(self) -> None:
        """Continue to write."""
        self._unread.stop()
        super().resume_writing()
        if self.transport.is_closing():
            self._unread.watch()
