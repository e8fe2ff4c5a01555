"""WebSockets on the wire: uvicorn's protocol, with bounds on clients."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from api.server.listener import as_ipv4

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport

    from uvicorn._types import ASGISendEvent

MAX_MESSAGE: Final = 64 * 1024
"""The most bytes of a message, whatever its number of frames. A larger one closes with 1009."""

MAX_WAITING: Final = 100
"""The most messages of one packet. Reading stops until the app has taken them."""

MAX_PARTS: Final = 64
"""The most parts of a message that are kept apart. Empty ones would not count as its bytes."""

PING_SECONDS: Final = 15.0
"""Seconds between the response to a ping and the next ping."""

CLOSE_SECONDS: Final = 5.0
"""Seconds in which a client has to answer a close frame, and then to read what is written."""

_RESTART: Final = 1012
_TRY_AGAIN: Final = 1013
_NOT_TEXT: Final = 1007


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, except for clients that read or answer nothing, and for its log.

    A client that reads nothing, or answers no ping, is closed with 1013, after which it may
    connect again. It costs the transport's buffer of 64 KiB and one message for each subscription.
    There is no compression: it would cost memory for each connection.
    """

    unread_seconds: ClassVar[float] = 20.0
    """Seconds after which a client that reads nothing is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _logger()
        self.conn = ServerProtocol(max_size=MAX_MESSAGE, logger=self.logger)
        self.ping_interval, self.ping_timeout = PING_SECONDS, self.unread_seconds
        self.close_timeout = CLOSE_SECONDS
        self._early = b""
        self._unread_timer: asyncio.TimerHandle | None = None
        self._last_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Take over a connection."""
        super().connection_made(transport)
        self.client = as_ipv4(self.client)

    def begin(self, head: bytes, rest: bytes) -> None:
        """Answer the request that asks for the upgrade.

        Args:
            head: of the request.
            rest: what arrived after it.
        """
        self.data_received(head)
        if not self.handshake_initiated:
            # websockets has limits of its own on a head; its response is ready.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        elif rest and not self.transport.is_closing():
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._stop_unread_timer()
        if self._last_timer:
            self._last_timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close because the server stops."""
        if self.handshake_complete:
            self._leave(_RESTART, "The instance stops. Connect again.")
        else:
            super().shutdown()

    # --- Reading ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client.

        Those that come before the response to the handshake wait for it, or they would be answered
        first.
        """
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.read_paused = True
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def _take_early(self) -> None:
        if self._early and self.conn.state is OPEN:
            data, self._early = self._early, b""
            self.read_paused = False
            self.transport.resume_reading()
            self.data_received(data)

    def handle_cont(self, event: Frame) -> None:
        """Add a part to a message."""
        super().handle_cont(event)
        if len(self.frames) >= MAX_PARTS:
            self.frames = [b"".join(self.frames)]

    def send_receive_event_to_app(self) -> None:
        """Queue a message for the app, if it is text and not one of too many."""
        if self.queue.qsize() >= MAX_WAITING:
            self._leave(_TRY_AGAIN, "Too many messages at once.")
        elif self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self._leave(_NOT_TEXT, "A message is not UTF-8.")
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless earlier responses are not read."""
        if self.writable.is_set() and not self.close_sent:
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """A ping was not answered. After uvicorn's own code clients do not connect again."""
        self.pong_timer = self.pending_ping_payload = None
        self._leave(_TRY_AGAIN, "No answer to a ping.")

    def handle_parser_exception(self) -> None:
        """Close because of an invalid or too large frame.

        The rest of it is read and dropped: to close at once would reset the connection, and the
        client might not get the close frame.
        """
        if self.close_sent:
            return
        close = self.conn.close_sent
        code, reason = (close.code, close.reason) if close else (1006, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._write_last()

    # --- Writing ------------------------------------------------------------------------------

    async def send(self, message: ASGISendEvent) -> None:
        """Send one message of the app, when the client has read enough of those before.

        Raises:
            ClientDisconnected: the connection is closed, or closing.
        """
        if not self.close_sent:
            await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        self._end_refusal()
        self._take_early()

    def _end_refusal(self) -> None:
        if self.initial_response and self.close_sent:
            # It was answered in HTTP. uvicorn would log that the handshake is not complete.
            self.handshake_complete = True

    def pause_writing(self) -> None:
        """Wait until the client has read some of what is written."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self.unread_seconds, self._leave_unread)

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        self._stop_unread_timer()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The app has ended. Do not wait for ever for the client to read the rest."""
        super().on_task_complete(task)
        self._last_timer = self.loop.call_later(2 * CLOSE_SECONDS, self.transport.abort)

    def _leave_unread(self) -> None:
        if self.transport.is_closing():
            # The client has closed the socket, and does not read what was written before.
            self.transport.abort()
        else:
            self._leave(_TRY_AGAIN, "The client reads nothing.")

    def _leave(self, code: int, reason: str) -> None:
        """Close without the app."""
        if self.close_sent or self.conn.state is not OPEN:
            self.transport.close()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self._write_last()

    def _write_last(self) -> None:
        """Write a close frame, and close when the client has answered it, or after some time."""
        self.stop_keepalive()
        self.close_sent = True
        if self.transport.is_closing():
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        # Who waits to send learns that it is too late, or the app would not end.
        self.writable.set()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer:
            self._unread_timer.cancel()


def _is_text(frames: list[bytes]) -> bool:
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True


def _logger() -> logging.Logger:
    """uvicorn would log every handshake with the query of its URL; the app logs each socket."""
    logger = logging.getLogger("uvicorn.error.websocket")
    if not logger.level:
        logger.setLevel(logging.WARNING)
    return logger
