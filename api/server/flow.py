"""Two changes to how uvicorn reads from a connection and keeps it open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Flow(FlowControl):
    """uvicorn's flow control, except that it resumes reading only if that is useful.

    Args:
        must_not_read: whether data that was already read has to be processed first.
    """

    def __init__(self, transport: asyncio.Transport, must_not_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._must_not_read = must_not_read

    def pause_reading(self) -> None:
        """Stop reading."""
        # uvloop's transports raise when they are closed already.
        if not self._transport.is_closing():
            super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless the connection closes or unprocessed data is left."""
        if self.read_paused and not (self._transport.is_closing() or self._must_not_read()):
            super().resume_reading()


def close_without_continue(cycle: RequestResponseCycle) -> None:
    """Close the connection after a final response instead of 100 Continue (RFC 9110, 10.1.1).

    The client may then send the body or not, so its next bytes could be the body or a request.
    """
    send = cycle.send

    async def send_and_close(message: ASGISendEvent) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_and_close  # type: ignore[method-assign]
