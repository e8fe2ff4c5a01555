"""When a connection is read from, and kept: two changes to what uvicorn does for every request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Flow(FlowControl):
    """uvicorn's flow control, which reads on only when it may, and never when closed.

    Args:
        must_not_read: whether what was read already has to be used first.
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
        """Read on, if that is of use."""
        if self.read_paused and not (self._transport.is_closing() or self._must_not_read()):
            super().resume_reading()


def close_unless_asked(cycle: RequestResponseCycle) -> None:
    """Close after an answer that a client gets in place of 100 (Continue) (RFC 9110, 10.1.1).

    Whether its body still comes is its own choice: its next bytes may be that, or a request.
    """
    send = cycle.send

    async def send_and_close(message: ASGISendEvent) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_and_close  # type: ignore[method-assign]
