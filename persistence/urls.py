"""Database URLs in the forms in use, and the one way to connect to what they name.

Everything that asyncpg would otherwise take from the environment (``PGHOST``, ``PGSSLMODE`` and
their kind) or from the home folder (``.pgpass``, ``.postgresql``) is passed to it explicitly.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from persistence import tls
from persistence.tls import TLSParameters

if sys.platform != "win32":
    import pwd

APPLICATION_NAME: Final = "twofold"

CONNECT_TIMEOUT: Final = 60.0
"""Seconds that opening a connection may take, if neither the URL nor the caller has a number."""

_SCHEMES: Final = ("postgres", "postgresql", "postgresql+asyncpg")

# For a URL without a host: the folders of PostgreSQL's sockets, then TCP.
_DEFAULT_HOSTS: Final = (
    ["localhost"]
    if sys.platform == "win32"
    else ["/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp", "localhost"]
)

_TRANSLATED: Final = frozenset(
    {
        "application_name",
        "connect_timeout",
        "host",
        "options",
        "pgbouncer",
        "ssl",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
    }
)

# Of no use here: asyncpg negotiates the first two with the server, and there is one host.
_IGNORED: Final = frozenset({"channel_binding", "gssencmode", "target_session_attrs"})


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """The address of a database, and how to connect to it.

    Args:
        user: the role.
        password: its password.
        host: a name, an address or the folder of a socket; ``None`` for this machine.
        port: 1 to 65535.
        database: its name.
        server_settings: what the connection sets on the server.
        timeout: seconds that opening a connection may take.
        attempts: how to connect, in this order: with a TLS context, or without TLS.
        pooled: the host is a PgBouncer in transaction mode, where a prepared statement exists in
            one transaction only.
    """

    user: str
    password: str | None = field(repr=False)
    host: str | None
    port: int
    database: str
    server_settings: Mapping[str, str]
    timeout: float | None
    attempts: tuple[ssl.SSLContext | None, ...]
    pooled: bool

    async def connect(
        self,
        *,
        timeout: float = CONNECT_TIMEOUT,  # noqa: ASYNC109  # the name that asyncpg has for it
        **options: Any,
    ) -> asyncpg.Connection:
        """Open a connection. The environment and the home folder have no influence on it.

        Args:
            timeout: seconds for all attempts, unless the URL has a number itself.
            options: further arguments of ``asyncpg.connect``.

        Raises:
            TimeoutError: it takes too long.
            OSError: the server does not answer, or TLS fails.
            asyncpg.PostgresError: the server refuses.
        """
        errors: dict[ssl.SSLContext | None, Exception] = {}
        async with asyncio.timeout(self.timeout or timeout):
            for context in self.attempts:
                try:
                    return await self._connect(context, options)
                except _NEXT_ATTEMPT as error:
                    errors[context] = error
                    if isinstance(error, ConnectionRefusedError):
                        break
        raise _most_telling(errors)

    async def _connect(
        self, context: ssl.SSLContext | None, options: dict[str, Any]
    ) -> asyncpg.Connection:
        if self.pooled:
            options = {"statement_cache_size": 0, **options}
        return await asyncpg.connect(
            host=self.host or _DEFAULT_HOSTS,
            port=self.port,
            user=self.user,
            # None would be looked up. The server takes an empty password for none.
            password=self.password or "",
            database=self.database,
            server_settings=dict(self.server_settings),
            ssl=context or False,
            direct_tls=False,
            target_session_attrs="any",
            krbsrvname="postgres",
            gsslib="sspi" if sys.platform == "win32" else "gssapi",
            timeout=None,
            **options,
        )


# Errors after which libpq makes the second attempt of the modes `allow` and `prefer`: the server
# has no TLS, the handshake fails, or its pg_hba.conf refuses connections of this kind.
_NEXT_ATTEMPT: Final = (
    ConnectionError,
    ssl.SSLError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ConnectionDoesNotExistError,
)


def _most_telling(errors: dict[ssl.SSLContext | None, Exception]) -> Exception:
    """The error to report of those attempts: about the password, from the server, over TLS."""

    def rank(context: ssl.SSLContext | None) -> tuple[bool, bool, bool]:
        error = errors[context]
        return (
            isinstance(error, asyncpg.InvalidPasswordError),
            isinstance(error, asyncpg.InvalidAuthorizationSpecificationError),
            context is not None,
        )

    return errors[max(errors, key=rank)]


def parse_database_url(text: str) -> DatabaseURL:
    """Parse a PostgreSQL URL in any form that Neon, psql or SQLAlchemy uses.

    Quotes and a leading ``psql`` are removed. libpq's parameters (PostgreSQL manual, 34.1.2) are
    translated, or ignored if they are of no use here. The files that they name are read.

    Raises:
        ValueError: the URL is invalid; the message is one sentence without a password.
    """
    url = _parse(text)
    parameters = _parameters(url)
    host = parameters.get("host") or (unquote(url.host) if url.host else None)
    if host and "," in host:
        raise ValueError("It names more than one host; it must be one.")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise ValueError(f"Its port is {url.port}; it must be 1 to 65535.")
    assert url.database
    return DatabaseURL(
        user=url.username or _account_name(),
        password=url.password,
        host=host,
        port=url.port or 5432,
        database=url.database,
        server_settings=_server_settings(parameters),
        timeout=_connect_timeout(parameters.get("connect_timeout")),
        attempts=tls.attempts(
            TLSParameters(
                mode=parameters.get("sslmode", parameters.get("ssl", "prefer")),
                root=parameters.get("sslrootcert"),
                certificate=parameters.get("sslcert"),
                key=parameters.get("sslkey"),
                password=parameters.get("sslpassword"),
            )
        ),
        pooled=_is_pooled(host, parameters.get("pgbouncer", "false")),
    )


def _parse(text: str) -> URL:
    cleaned = text.strip().removeprefix("psql ").strip().strip("\"'").strip()
    if cleaned.count("@") > 1:
        # A part of the password would be taken for the host, and appear in messages.
        raise ValueError("It has more than one @; in a name or a password it is written %40.")
    try:
        url = make_url(cleaned)
    except (ArgumentError, ValueError):
        raise ValueError(
            "It is not a URL of the form postgresql://user:password@host/database."
        ) from None
    if url.drivername not in _SCHEMES:
        raise ValueError(f"Its scheme is {url.drivername!r}; it must be postgresql.")
    if not url.database:
        raise ValueError("It names no database: postgresql://user:password@host/database.")
    return url


def _parameters(url: URL) -> dict[str, str]:
    parameters = {}
    for name, value in url.query.items():
        if not isinstance(value, str):
            raise ValueError(f"Its parameter {name!r} is repeated.")
        if name not in _TRANSLATED | _IGNORED:
            known = ", ".join(sorted(_TRANSLATED | _IGNORED))
            raise ValueError(f"Its parameter {name!r} is unknown; known are {known}.")
        parameters[name] = value
    return parameters


def _account_name() -> str:
    # As libpq does; asyncpg would ask PGUSER, LOGNAME and USER before.
    if sys.platform != "win32":
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            pass
    raise ValueError("It names no user: postgresql://user:password@host/database.")


def _server_settings(parameters: dict[str, str]) -> dict[str, str]:
    names = {"application_name", "options"} & parameters.keys()
    return {"application_name": APPLICATION_NAME} | {name: parameters[name] for name in names}


def _connect_timeout(seconds: str | None) -> float | None:
    if seconds is not None and (not seconds.isdecimal() or int(seconds) < 1):
        raise ValueError(
            f"Its connect_timeout is {seconds!r}; it must be a number of seconds, 1 or more."
        )
    return None if seconds is None else float(seconds)


def _is_pooled(host: str | None, pgbouncer: str) -> bool:
    if pgbouncer not in ("true", "false"):
        raise ValueError(f"Its pgbouncer is {pgbouncer!r}; it must be true or false.")
    # A pooled host of Neon: ep-cool-name-123456-pooler.region.aws.neon.tech
    return pgbouncer == "true" or "-pooler." in (host or "")
