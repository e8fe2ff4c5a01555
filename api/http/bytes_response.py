"""A whole response whose headers are bytes from the start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

JSON_TYPE: Final = (b"content-type", b"application/json")


class BytesResponse(Response):
    """Starlette's response, made in 1 µs in place of 5: nothing has to be encoded or looked up.

    Args:
        body: what is sent.
        headers: all but ``Content-Length``, with names in lower case.
    """

    background = None

    def __init__(self, body: bytes, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.body = body
        self.status_code = status
        # A response with one of these statuses has neither a body nor a length.
        length = [] if status in (204, 304) else [(b"content-length", b"%d" % len(body))]
        self.raw_headers = [*length, *headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": self.body})
