"""uvicorn's server, which can stop taking connections without losing one."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from api.server.interrupts import ignore_to_the_end

HANDSHAKE_SECONDS: Final = 0.2
"""Seconds for the handshakes that have begun; afterwards no connection waits to be accepted. More
than a round trip to a load balancer."""

RELEASE_TIMEOUT: Final = 2.0
"""Seconds that a worker waits for its parent's permission to close the listener. It gets none if
somebody else than its parent has stopped it."""


class Server(uvicorn.Server):
    """uvicorn's server, with a listener that several processes may share.

    Attributes:
        is_last: whether every other process that shares the listener stops with this one.
        is_released: set when the listener may be closed.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_last = True
        self.is_released = threading.Event()
        self.is_released.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle signals while this serves, and ignore them afterwards: the process ends then.

        uvicorn would give them back, and raise those that it has handled once more. But requests
        that a second Ctrl-C has cut short are answered after this block, when the event loop ends.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in HANDLED_SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in HANDLED_SIGNALS:
                ignore_to_the_end(number)

    async def stop_accepting(self) -> None:
        """Close the listener at a moment at which no connection waits there to be accepted.

        The operating system resets those that wait when the last process closes a listener. Their
        clients have been told that they are connected, and may have sent a request.
        """
        deadline = time.monotonic() + RELEASE_TIMEOUT
        while not self.is_released.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # A thread sets the event.
        if self.is_last:
            listeners = [each for server in self.servers for each in server.sockets]
            if all(ignore_new_connections(each.fileno()) for each in listeners):
                await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()


# Linux's SO_ATTACH_FILTER, which Python does not name, and a program for it: of a TCP segment, load
# the byte with the flags (13), keep SYN and ACK, drop the segment if only SYN is set, else keep it.
_ATTACH_FILTER: Final = 26
_NO_SYN: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


def ignore_new_connections(listener: int) -> bool:
    """Have the operating system ignore attempts to connect, in all processes with this listener.

    Handshakes that have begun are finished. A client that attempts one tries again a second later,
    and is refused then if the listener is closed.

    Args:
        listener: the file descriptor.

    Returns:
        Whether it does; Linux alone can.
    """
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(_NO_SYN)
    argument = struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    with socket.socket(fileno=socket.dup(listener)) as same:
        try:
            same.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, argument)
        except OSError:
            return False
    return True
