"""Redis URLs in the forms that providers make, parsed into the server to connect to."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from persistence.tls import client_context

_SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys", "unix")
_TLS_SCHEMES: Final = ("rediss", "valkeys")
_TLS_OPTIONS: Final = (
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
# Of other clients: the budget works with every protocol version and every address family.
_IGNORED: Final = ("protocol", "family")
_OPTIONS: Final = ("db", "username", "password", *_TLS_OPTIONS, *_IGNORED)

DEFAULT_PORT: Final = 6379

_MAX_DATABASE: Final = 2**31 - 1
_MAX_SOCKET_PATH: Final = 107
"""Bytes of a path that Linux can connect to (unix(7))."""

_PLACE: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/?#@,%\\]*)(:(?P<port>[^/?#]*))?(/(?P<path>[^?#]*))?"
)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where Redis is, and who we are there.

    Attributes:
        host: a name, or an address without brackets.
        path: of a Unix socket, in place of ``host`` and ``port``.
        username: needs a password; ``None`` is Redis's default user.
        tls: ``None`` connects without TLS.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """The path, or host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


def parse_redis_url(text: str) -> RedisServer:
    """Parse a ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or ``unix://`` URL.

    A name and a password end at the last ``@``, so that they may hold any character as it is. A
    ``%`` with two hexadecimal digits is decoded. Files of certificates are read.

    Raises:
        ValueError: no server can be reached by this URL. The message is one sentence and quotes
            nothing of the URL, because any part may be a part of the password.
    """
    scheme, separator, rest = text.strip().strip("\"'").strip().partition("://")
    scheme = scheme.lower()
    if separator and "sentinel" in scheme:
        raise ValueError("It is a URL of Sentinel, which is not supported; name one server.")
    if separator and "cluster" in scheme:
        raise ValueError("It is a URL of a cluster, which is not supported; name one server.")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("It must begin with redis://, rediss:// or unix://.")
    if scheme == "unix":
        return _at_socket(rest)
    return _at_host(rest, scheme in _TLS_SCHEMES)


def _at_host(rest: str, is_tls: bool) -> RedisServer:
    userinfo, _, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    if "#" in place + query:
        raise ValueError("It has a # after its host; in a password it stands before the @.")
    match = _PLACE.fullmatch(place)
    if match is None:
        if "," in place:
            raise ValueError("It names more than one host; it must be one.")
        raise ValueError(
            "It is not of the form redis://user:password@host:port/database;"
            " an IPv6 address stands in brackets."
        )
    options = _options(query)
    username, password = _credentials(userinfo, options)
    return RedisServer(
        host=_host(match["host"]),
        port=_port(match["port"]),
        username=username,
        password=password,
        database=_database(match["path"], options),
        tls=_tls(options, is_tls),
    )


def _at_socket(rest: str) -> RedisServer:
    userinfo, path = "", rest
    if not rest.startswith("/"):
        userinfo, separator, path = rest.rpartition("@/")
        path = f"/{path}" if separator else ""
    path, _, query = path.partition("?")
    path = _decoded(path, "path")
    if len(path) < 2:
        raise ValueError("It names no socket: unix:///run/redis.sock.")
    if len(path.encode()) > _MAX_SOCKET_PATH or "\0" in path:
        raise ValueError(f"Its socket cannot exist: a path has at most {_MAX_SOCKET_PATH} bytes.")
    options = _options(query)
    username, password = _credentials(userinfo, options)
    return RedisServer(
        path=path,
        username=username,
        password=password,
        database=_database("", options),
        tls=_tls(options, is_tls=False),
    )


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name.startswith("ssl_") and name not in _TLS_OPTIONS:
            known = ", ".join(_TLS_OPTIONS)
            raise ValueError(f"It has a TLS option that is not known; known are {known}.")
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise ValueError(f"It has a parameter that is not known; known are {known}.")
        if name in options:
            raise ValueError(f"Its parameter {name} is repeated.")
        options[name] = _decoded(value, name)
    return options


def _credentials(userinfo: str, options: dict[str, str]) -> tuple[str | None, str | None]:
    name, colon, secret = userinfo.partition(":")
    if userinfo and not colon:
        raise ValueError("It has a name without a password; a password alone is :password@host.")
    username = _decoded(name, "user") or options.get("username") or None
    password = _decoded(secret, "password") or options.get("password") or None
    if username and password is None:
        raise ValueError("It has a user without a password.")
    return username, password


def _decoded(text: str, part: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ValueError(f"Its {part} is not UTF-8; a % is written %25.") from None


def _host(text: str) -> str:
    host = text.strip("[]")
    if not host:
        raise ValueError("It names no host.")
    try:
        # What the look-up of a host does first, and fails with.
        host.encode("idna")
    except UnicodeError:
        raise ValueError("Its host is not a name that a host can have.") from None
    return host


def _port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    if not _is_number(text) or not 1 <= int(text) <= 65535:
        raise ValueError("Its port is not a number from 1 to 65535.")
    return int(text)


def _database(path: str | None, options: dict[str, str]) -> int:
    numbers = {text for text in ((path or "").removesuffix("/"), options.get("db", "")) if text}
    if len(numbers) > 1:
        raise ValueError("It names two databases.")
    for text in numbers:
        if not _is_number(text) or int(text) > _MAX_DATABASE:
            raise ValueError("Its database is not a number, as in redis://host:6379/0.")
        return int(text)
    return 0


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", text) is not None


def _tls(options: dict[str, str], is_tls: bool) -> ssl.SSLContext | None:
    if not is_tls:
        if options.keys() & set(_TLS_OPTIONS):
            raise ValueError("It has TLS options, which need rediss://.")
        return None
    context = _trusting(options.get("ssl_ca_certs"))
    is_checked = _is_required(options.get("ssl_cert_reqs", "required"))
    is_named = _is_true(options.get("ssl_check_hostname", str(is_checked)))
    if is_named and not is_checked:
        raise ValueError("Its ssl_check_hostname needs ssl_cert_reqs=required.")
    context.check_hostname = is_named
    if not is_checked:
        context.verify_mode = ssl.CERT_NONE
    _identify(context, options.get("ssl_certfile"), options.get("ssl_keyfile"))
    return context


def _trusting(ca_certs: str | None) -> ssl.SSLContext:
    context = client_context()
    if ca_certs is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_certs)
    except (OSError, ValueError):
        raise ValueError("Its ssl_ca_certs is not a file of certificates.") from None
    return context


def _is_required(text: str) -> bool:
    requirement = text.lower().removeprefix("cert_")
    if requirement not in ("none", "optional", "required"):
        raise ValueError("Its ssl_cert_reqs is not none, optional or required.")
    # A client's optional means that a certificate which is sent is checked; a server always sends.
    return requirement != "none"


def _is_true(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("Its ssl_check_hostname is not true or false.")
    return text.lower() == "true"


def _identify(context: ssl.SSLContext, certfile: str | None, keyfile: str | None) -> None:
    if certfile is None:
        if keyfile is not None:
            raise ValueError("Its ssl_keyfile needs an ssl_certfile.")
        return
    try:
        # An empty password, because OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certfile, keyfile, password="")
    except (OSError, ValueError):
        raise ValueError(
            "Its ssl_certfile and ssl_keyfile are not a certificate with its key, unencrypted."
        ) from None
