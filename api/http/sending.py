"""What is added to every response on its way to the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Message, Scope, Send

from api.request import RequestContext
from api.state import is_draining

PIECE: Final = 64 * 1024
"""The most bytes of a response body that are sent in one message. The server accepts the next
message when the client has read the one before, so a request ends only when all of its response
but the last piece is read."""


class ResponseSender:
    """ASGI's ``send`` for one request.

    It adds the common headers, the request's id, what its budget has left, and whether the response
    is that of an earlier request. A large body is sent in pieces, and a response to HEAD without
    its body (RFC 9110, 9.3.2). While the instance drains, the connection is closed after the
    response: the server would close an idle one when it stops, and a client may have just sent a
    request on it.

    Args:
        send: the server's.
        defaults: headers for every response that does not have them already.
    """

    __slots__ = ("_context", "_defaults", "_scope", "_send")

    def __init__(
        self,
        send: Send,
        scope: Scope,
        context: RequestContext,
        defaults: list[tuple[bytes, bytes]],
    ) -> None:
        self._send = send
        self._scope = scope
        self._context = context
        self._defaults = defaults

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self._context.status = message["status"]
            message["headers"] = self._with_common(message.get("headers", ()))
        elif self._scope["method"] == "HEAD":
            message = {**message, "body": b""}
        elif len(message.get("body", b"")) > PIECE:
            await self._send_pieces(message)
            return
        await self._send(message)

    def _with_common(self, sent: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        context = self._context
        present = dict(sent)
        headers = [_varied(pair) for pair in sent] if b"vary" in present else [*sent, _VARY]
        headers += [pair for pair in self._defaults if pair[0] not in present]
        headers.append((b"x-request-id", context.request_id.encode()))
        for charge in context.charges:
            headers += charge.headers
        write = context.idempotent_writes.get("")
        if write is not None and write.is_replayed:
            headers.append((b"idempotency-replayed", b"true"))
        if is_draining(self._scope):
            headers.append((b"connection", b"close"))
        return headers

    async def _send_pieces(self, message: Message) -> None:
        body = memoryview(message["body"])
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            more = message.get("more_body", False) or start + PIECE < len(body)
            await self._send({**message, "body": piece, "more_body": more})


_VARY: Final = (b"vary", b"Origin")


def _varied(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Add ``Origin`` to a ``Vary`` header, and return any other header unchanged.

    The origin's own headers are in the response to a request that has one (``api.http.cors``). A
    cache must not give the response without them to a page of another origin.
    """
    name, value = pair
    return (name, value + b", Origin") if name == b"vary" and b"Origin" not in value else pair
