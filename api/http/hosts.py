"""Which hosts this server answers for."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import Final

from starlette.types import Scope

from api.errors import UnknownHost
from api.headers import header_values
from api.http.links import path_in_app
from persistence.errors import FieldError, InvalidInput

_log = logging.getLogger("twofold")


class TrustedHosts:
    """Refuses a request that does not name exactly one host (RFC 9112, 3.2).

    Args:
        hosts: the hosts to answer for, as a protection against DNS rebinding: names, ``*.name`` for
            every name below it, and addresses, without ports, an IPv6 address in brackets.
            ``None`` allows every host. ``/health`` and what is below it answer for every host:
            a load balancer names an address that nobody configured.
    """

    def __init__(self, hosts: Collection[str] | None) -> None:
        names = hosts or ()
        self._is_open = hosts is None
        self._names = {name for name in names if not name.startswith("*.")}
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._logged: set[str] = set()
        self._accepted: set[bytes] = set()

    def require(self, scope: Scope) -> None:
        """Require that a request is meant for this server.

        Raises:
            InvalidInput: the request names several hosts, or none (HTTP/1.0 may), or the value of
                ``Host`` is not a host.
            UnknownHost: the request is meant for another host.
        """
        values = header_values(scope, b"host")
        # Clients send the same few values again and again.
        if len(values) == 1 and values[0] in self._accepted:
            return
        if len(values) != 1 and (values or scope["http_version"] != "1.0"):
            raise _invalid_host("Should occur only once")
        if values and not _HOST.fullmatch(values[0]):
            raise _invalid_host("Should be a host, and perhaps a port")
        host = _without_port(values[0]) if values else ""
        if self._is_open or host in self._names or host.endswith(self._suffixes):
            if values and len(self._accepted) < _MAX_ACCEPTED:
                self._accepted.add(values[0])
        elif not _is_health(path_in_app(scope)):
            self._log_refusal(host)
            raise UnknownHost

    def _log_refusal(self, host: str) -> None:
        # Each host once, and only a few of them: anybody can send one.
        if len(self._logged) < _MAX_LOGGED and host not in self._logged:
            self._logged.add(host)
            _log.warning("no answer for the host %.100r; ALLOWED_HOSTS lists further ones", host)


_MAX_LOGGED: Final = 20

_MAX_ACCEPTED: Final = 100
"""Values of ``Host`` that are remembered as accepted: with and without a port, in any case."""


def _is_health(path: str) -> bool:
    return path == "/health" or path.startswith("/health/")


# uri-host [ ":" port ], where the host is not empty (RFC 3986, 3.2.2; RFC 9110, 4.2.1).
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]+)(?::[0-9]*)?", re.ASCII
)


def _invalid_host(message: str) -> InvalidInput:
    return InvalidInput([FieldError("Host", message, "host_invalid")])


def _without_port(host: bytes) -> str:
    return _PORT.sub("", host.decode("latin-1").lower()).rstrip(".")


_PORT: Final = re.compile(r":[0-9]*\Z")
