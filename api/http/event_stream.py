"""Server-sent events: the response that sends a person's changes as they happen.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from starlette.types import Receive, Scope, Send

from api.errors import Unauthenticated
from api.live.errors import StreamCut
from api.live.hub import Hub
from api.live.stream import Stream
from api.request import context_of
from persistence.feeds import Changes
from persistence.sync_tokens import SyncTokenExpired
from persistence.viewer import Viewer

HEARTBEAT_SECONDS: Final = 15.0
"""Seconds between two lines, so that proxies keep the connection."""

STUCK_SECONDS: Final = 20.0
"""Seconds for which a client may read nothing."""

# A comment with an empty line behind it would be an empty message for some clients.
_HEARTBEAT: Final = b":\n"

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    # nginx would wait for more.
    (b"x-accel-buffering", b"no"),
]


class EventForm:
    """How a protocol writes its events; each is complete, with LF line ends.

    Args:
        changes: changes as an event.
        end: the last event, of an error that ends the stream for good.
        retries: whether the client is told when to connect again.
    """

    def __init__(
        self,
        changes: Callable[[Changes], Awaitable[bytes]],
        end: Callable[[Scope, Exception], bytes],
        *,
        retries: bool,
    ) -> None:
        self.changes = changes
        self.end = end
        self.retries = retries


class EventStream:
    """A response that ends when its session does, and is cut when the client has to reconnect.

    Args:
        hub: where it is registered.
        viewer: whose changes they are.
        bearer: the token of their session.
        first: what is sent at once; the stream continues after it.
        form: writes the events.
        seconds: after which it is cut, roughly.
    """

    def __init__(
        self,
        hub: Hub,
        viewer: Viewer,
        bearer: bytes,
        first: Changes,
        form: EventForm,
        seconds: float,
    ) -> None:
        self._hub = hub
        self._viewer = viewer
        self._bearer = bearer
        self._first = first
        self._form = form
        self._seconds = seconds * random.uniform(0.8, 1.2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream.

        Raises:
            TooManyStreams: the viewer has too many; nothing was sent.
            Unavailable: the instance has too many; nothing was sent.
            StreamCut: the connection has to be closed in the middle.
        """
        # What changed since ``first`` was read is read after this.
        stream = self._hub.add(self._viewer, self._bearer, self._first.token)
        # It does not count as a response under way: it has no end.
        context = context_of(scope)
        context.slots.end()
        context.events = 0
        sending = asyncio.create_task(self._send(stream, scope, send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._hub.remove(stream)
            for task in (sending, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _send(self, stream: Stream, scope: Scope, send: Send) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        if scope.get("is_head"):
            await send({"type": "http.response.body", "body": b""})
            return
        context = context_of(scope)
        retry = b"retry: %d\n" % random.randint(1000, 5000) if self._form.retries else b""
        await _send_piece(send, retry + await self._form.changes(self._first))
        context.events = 1
        while loop.time() < until:
            try:
                changes = await stream.next(HEARTBEAT_SECONDS)
            except (Unauthenticated, SyncTokenExpired) as error:
                await _send_piece(send, self._form.end(scope, error))
                await send({"type": "http.response.body", "body": b""})
                return
            piece = _HEARTBEAT if changes is None else await self._form.changes(changes)
            await _send_piece(send, piece)
            context.events += changes is not None
        raise StreamCut("it is old")


async def _send_piece(send: Send, piece: bytes) -> None:
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        raise StreamCut("the client reads nothing") from None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
