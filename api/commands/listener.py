"""The address to listen on, taken or known to be free; if it is neither, why in a sentence."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from api.commands.terminal import Refusal

# How long a port may stay taken by what was just stopped.
PORT_PATIENCE: Final = 2.0


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The address, taken once and for all workers.

    Raises:
        Refusal: something else listens there, or nothing can.
    """
    host = host.strip("[]")
    family, address = _resolved(host, port)
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.set_inheritable(True)
        deadline = time.monotonic() + PORT_PATIENCE
        while error := _bind(listener, address):
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_address(host, error)
            # Perhaps a just stopped one is still answering its last request.
            if error.errno != errno.EADDRINUSE:
                raise Refusal(f"Cannot listen on {host}:{port}: {error.strerror}.")
            if time.monotonic() > deadline:
                raise Refusal(f"Port {port} of {host} is in use: stop what uses it, or set PORT.")
            time.sleep(0.1)
        yield listener


def require_free(host: str, port: int) -> None:
    """Take an address, and give it back for a server that takes it by itself.

    Raises:
        Refusal: something else listens there, or nothing can.
    """
    with listening(host, port):
        pass


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Where a name leads; of several addresses one of IPv4, as uvicorn has it for its workers."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _no_address(host, error) from None
    family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _no_address(host: str, error: OSError | UnicodeError) -> Refusal:
    reason = error.strerror if isinstance(error, OSError) else error
    return Refusal(f"HOST: {host!r} is not an address of this machine: {reason}.")


def _bind(listener: socket.socket, address: Any) -> OSError | None:
    try:
        listener.bind(address)
    except OSError as error:
        return error
    return None
