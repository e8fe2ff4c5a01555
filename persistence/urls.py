"""Database URLs in the forms in use, translated into arguments of SQLAlchemy and asyncpg."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

APPLICATION_NAME: Final = "twofold"

_SCHEMES: Final = ("postgres", "postgresql", "postgresql+asyncpg")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """The address of a database, and how to connect to it.

    Args:
        url: for SQLAlchemy, without query parameters.
        connect_args: for ``asyncpg.connect``; ``timeout`` is in seconds.
        pooled: the host is a PgBouncer in transaction mode, where a prepared statement exists in
            one transaction only.
    """

    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)
    pooled: bool = False


def parse_database_url(text: str) -> DatabaseURL:
    """Parse a PostgreSQL URL in any form that Neon, psql or SQLAlchemy uses.

    Quotes and a leading ``psql`` are removed. libpq's parameters (PostgreSQL manual, 34.1.2) are
    translated, or ignored if asyncpg negotiates them itself.

    Raises:
        ValueError: the URL is invalid; the message is one sentence without the password.
    """
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
    host = unquote(url.host) if url.host else None
    if host and "," in host:
        raise ValueError("It names more than one host; it must be one.")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise ValueError(f"Its port is {url.port}; it must be 1 to 65535.")
    database = DatabaseURL(
        URL.create("postgresql+asyncpg", url.username, url.password, host, url.port, url.database),
        {"server_settings": {"application_name": APPLICATION_NAME}},
    )
    # sslrootcert last, because its meaning depends on sslmode.
    for name, value in sorted(url.query.items(), key=lambda pair: pair[0] == "sslrootcert"):
        if not isinstance(value, str):
            raise ValueError(f"Its parameter {name!r} is repeated.")
        database = _with_parameter(database, name, value)
    return _without_statement_cache(database) if _is_pooled(database) else database


def _with_parameter(database: DatabaseURL, name: str, value: str) -> DatabaseURL:
    if name in _IGNORED:
        return database
    if name not in _TRANSLATED:
        known = ", ".join(sorted({*_TRANSLATED, *_IGNORED}))
        raise ValueError(f"Its parameter {name!r} is unknown; known are {known}.")
    return _TRANSLATED[name](database, value)


def _sslmode(database: DatabaseURL, value: str) -> DatabaseURL:
    if value not in _SSL_MODES:
        raise ValueError(f"Its sslmode is {value!r}; it must be one of {', '.join(_SSL_MODES)}.")
    if value.startswith("verify-"):
        # asyncpg requires ~/.postgresql/root.crt for this mode; providers mean the certificate
        # authorities of the system.
        context = ssl.create_default_context()
        context.check_hostname = value == "verify-full"
        return _with_arguments(database, ssl=context)
    return _with_arguments(database, ssl=value)


def _sslrootcert(database: DatabaseURL, value: str) -> DatabaseURL:
    mode = database.connect_args.get("ssl")
    if mode == "disable":
        return database
    if value == "system":
        return _with_arguments(database, ssl=ssl.create_default_context())
    try:
        context = ssl.create_default_context(cafile=value)
    except OSError:
        raise ValueError(f"Its sslrootcert {value!r} cannot be read.") from None
    context.check_hostname = mode.check_hostname if isinstance(mode, ssl.SSLContext) else False
    return _with_arguments(database, ssl=context)


def _application_name(database: DatabaseURL, value: str) -> DatabaseURL:
    return _with_server_setting(database, "application_name", value)


def _options(database: DatabaseURL, value: str) -> DatabaseURL:
    return _with_server_setting(database, "options", value)


def _connect_timeout(database: DatabaseURL, value: str) -> DatabaseURL:
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(
            f"Its connect_timeout is {value!r}; it must be a number of seconds, 1 or more."
        )
    return _with_arguments(database, timeout=float(value))


def _host(database: DatabaseURL, value: str) -> DatabaseURL:
    return DatabaseURL(database.url.set(host=value), database.connect_args, database.pooled)


def _pgbouncer(database: DatabaseURL, value: str) -> DatabaseURL:
    if value not in ("true", "false"):
        raise ValueError(f"Its pgbouncer is {value!r}; it must be true or false.")
    return DatabaseURL(database.url, database.connect_args, pooled=value == "true")


_TRANSLATED: Final[dict[str, Callable[[DatabaseURL, str], DatabaseURL]]] = {
    "sslmode": _sslmode,
    "ssl": _sslmode,
    "sslrootcert": _sslrootcert,
    "application_name": _application_name,
    "options": _options,
    "connect_timeout": _connect_timeout,
    "host": _host,
    "pgbouncer": _pgbouncer,
}

# asyncpg has no such arguments: it negotiates them with the server.
_IGNORED: Final = frozenset({"channel_binding", "gssencmode", "target_session_attrs"})


def _with_arguments(database: DatabaseURL, **arguments: Any) -> DatabaseURL:
    return DatabaseURL(database.url, {**database.connect_args, **arguments}, database.pooled)


def _with_server_setting(database: DatabaseURL, name: str, value: str) -> DatabaseURL:
    settings = {**database.connect_args["server_settings"], name: value}
    return _with_arguments(database, server_settings=settings)


def _is_pooled(database: DatabaseURL) -> bool:
    # A pooled host of Neon: ep-cool-name-123456-pooler.region.aws.neon.tech
    return database.pooled or "-pooler." in (database.url.host or "")


def _without_statement_cache(database: DatabaseURL) -> DatabaseURL:
    arguments = {**database.connect_args, "statement_cache_size": 0}
    return DatabaseURL(database.url, arguments, pooled=True)
