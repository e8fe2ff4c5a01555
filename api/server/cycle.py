"""One request and its response: uvicorn's cycle, except for how a response is written."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.live.errors import StreamCut

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Headers = Iterable[tuple[bytes, bytes]]


class Cycle(RequestResponseCycle):
    """A cycle that writes the head of a response together with the first part of its body.

    That is one system call in place of two, and one search of all headers for control characters
    in place of two of each. The response needs a known length: of any other one, a stream of events
    for example, the head is written at once, and the body in chunks, by uvicorn's own method.

    Args:
        close: closes the connection when the client has read what is written.
    """

    # What is so at first. uvicorn's constructor does the same in three times the time.
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    access_log = False

    # The status and the headers, until the first part of the body is there.
    _head: tuple[int, list[tuple[bytes, bytes]]] | None = None
    _ends_with_connection = False

    def __init__(
        self, protocol: HttpToolsProtocol, close: Callable[[], None], *, keep_alive: bool
    ) -> None:
        self._close = close
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.default_headers = protocol.server_state.default_headers
        self.message_event = asyncio.Event()
        self.on_response = protocol.on_response_complete
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.body = bytearray()

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the app; what uvicorn has to log is left to its own method.

        A response may end in the middle, by ``StreamCut``: its client notices that it is not
        complete. And uvicorn cancels what still runs after a second Ctrl-C: the app has responded
        by then, or cannot any more. uvicorn would log both with a traceback.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except StreamCut:
            self.disconnected = True
            self._close()
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            await super().run_asgi(_failing(error))
            return
        if not (self.response_complete or self.disconnected):
            await super().run_asgi(_do_nothing)
        # It refers to this cycle.
        self.on_response = _nothing

    async def send(self, message: ASGISendEvent) -> None:
        """Send one message of the response, when the client has read enough of those before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            if self._takes_head(message["status"], list(message.get("headers", ()))):
                return
        elif message["type"] == "http.response.body":
            if self._ends_with_connection and not message.get("more_body", False):
                self.expected_content_length = len(message["body"])
            if self._head is not None:
                self._write(*self._head, message["body"])
                self._head = None
                if not message.get("more_body", False):
                    self._complete()
                return
        await super().send(message)

    def _takes_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
        """Keep a head until the first part of its body is there, if the response has a length.

        Or none in HTTP/1.0, which knows no chunks: its body ends with the connection (RFC 9112, 6.1
        and 6.3).
        """
        values = dict(headers)
        length = values.get(b"content-length", b"0" if status in _BODILESS else None)
        if length is None:
            if self.scope["http_version"] != "1.0":
                return False
            length, self._ends_with_connection, self.keep_alive = b"%d" % sys.maxsize, True, False
        self._head = status, headers
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.expected_content_length = 0 if self.scope["method"] == "HEAD" else int(length)
        if values.get(b"connection") == b"close":
            self.keep_alive = False
        return True

    def _write(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Write the head, and the first part of the body.

        Raises:
            RuntimeError: a header has a control character, or the body is longer than declared.
        """
        lines = [b"%b: %b" % header for header in (*self.default_headers, *headers)]
        text = b"".join(lines)
        if len(text.translate(None, _CONTROL_CHARACTERS)) != len(text):
            raise RuntimeError("a header has a control character")
        if not self.keep_alive and (b"connection", b"close") not in headers:
            lines.append(b"connection: close")
        if self.scope["method"] == "HEAD":
            body = b""
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0:
            raise RuntimeError("the body is longer than its Content-Length")
        head = STATUS_LINE[status] + b"\r\n".join(lines)
        self.transport.write(b"".join((head, b"\r\n\r\n", body)))

    def _complete(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _failing(error: BaseException) -> ASGI3Application:
    """An app that ends as another one did."""

    async def fail(_: Scope, __: ASGIReceiveCallable, ___: ASGISendCallable) -> None:
        raise error

    return fail


async def _do_nothing(_: Scope, __: ASGIReceiveCallable, ___: ASGISendCallable) -> None:
    """An app without a response. uvicorn logs that, and responds with 500."""


def _nothing() -> None:
    """In the place of a function that is not needed any more."""


_BODILESS: Final = (204, 304)
"""The statuses of responses without a body, which need no length (RFC 9110, 6.4.1)."""

_CONTROL_CHARACTERS: Final = bytes({*range(0x20), 0x7F} - {0x09})
"""All but the tab (RFC 9110, 5.5)."""
