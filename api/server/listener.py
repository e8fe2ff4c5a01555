"""The TCP address that the server listens on; a problem with it is one sentence."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

# Seconds to wait for a server that was just stopped to release the port.
PORT_TIMEOUT: Final = 2.0


class AddressError(Exception):
    """The server cannot listen on an address; the message is one sentence for the operator."""


@contextmanager
def listening(host: str, port: int, prefix: str = "") -> Iterator[socket.socket]:
    """Bind a socket that several processes can share.

    Args:
        host: a name or an address, IPv6 with or without brackets. On ``::`` IPv4 is served too.
        port: the port; 0 takes any free one.
        prefix: of the settings ``HOST`` and ``PORT`` that a message names.

    Raises:
        AddressError: the port is in use, or the host is not an address of this machine.
    """
    host = host.strip("[]")
    family, address = _resolve(host, port, prefix)
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # On `::`, for IPv4 as well. Systems have different defaults.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.set_inheritable(True)
        deadline = time.monotonic() + PORT_TIMEOUT
        while error := _bind(listener, address):
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_such_address(host, error, prefix)
            # A server that was just stopped may still be answering its last request.
            if error.errno != errno.EADDRINUSE:
                raise AddressError(f"Cannot listen on {host}:{port}: {error.strerror}.")
            if time.monotonic() > deadline:
                raise AddressError(
                    f"Port {port} of {host} is in use: stop what uses it, or set {prefix}PORT."
                )
            time.sleep(0.1)
        yield listener


def base_url(listener: socket.socket) -> str:
    """The URL of a listener's address."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def as_ipv4(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """A client's address; the plain one if it reached a listener on ``::`` over IPv4.

    Otherwise it would not be among the proxies that ``FORWARDED_ALLOW_IPS`` names.
    """
    if client and "." in client[0]:
        return client[0].removeprefix("::ffff:"), client[1]
    return client


def _resolve(host: str, port: int, prefix: str) -> tuple[socket.AddressFamily, Any]:
    """The address of a name; if it has several, an IPv4 one, as uvicorn chooses for workers."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _no_such_address(host, error, prefix) from None
    family, *_, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _no_such_address(host: str, error: OSError | UnicodeError, prefix: str) -> AddressError:
    reason = error.strerror if isinstance(error, OSError) else error
    return AddressError(f"{prefix}HOST: {host!r} is not an address of this machine: {reason}.")


def _bind(listener: socket.socket, address: Any) -> OSError | None:
    try:
        listener.bind(address)
    except OSError as error:
        return error
    return None
