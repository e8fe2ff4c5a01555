"""The HTTP of ``twofold serve``: uvicorn's httptools, with an end to headers.

The parser itself reads headers of any length, for as long as they come, and takes the trailers of
a chunked body for headers: identity could arrive after the proxy that checks it.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADERS: Final = 64 * 1024
"""The most bytes that a request line and its headers may have together, but for one packet."""


class Protocol(HttpToolsProtocol):
    """uvicorn's, which answers 400 to longer headers and passes over trailers (RFC 9110, 6.5.1)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers = True
        self._header_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what came, unless it is still headers after too much of them."""
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADERS + len(data):
                self.send_400_response("Invalid HTTP request received.")
                return
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; leave a trailer."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Go on to the next request."""
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_complete()
