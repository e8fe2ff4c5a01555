"""Database URLs as people paste them, made into what asyncpg understands."""

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
    """Where the database is, and how to connect to it.

    Args:
        url: for SQLAlchemy, without query parameters.
        connect_args: for ``asyncpg.connect``; ``timeout`` is in seconds.
        pooled: the host is a PgBouncer in transaction mode, where prepared statements must not
            outlive a transaction.
    """

    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)
    pooled: bool = False


def parse_database_url(text: str) -> DatabaseURL:
    """Read a PostgreSQL URL in any form that Neon, psql or SQLAlchemy hands out.

    Quotes and a leading ``psql`` are stripped, libpq's parameters are translated or, where
    asyncpg negotiates them by itself, dropped.

    Raises:
        ValueError: one sentence that says what is wrong, without the password.
    """
    cleaned = text.strip().removeprefix("psql ").strip().strip("\"'").strip()
    if cleaned.count("@") > 1:
        # What follows the first would be taken for the host, and told to everybody.
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
    found = DatabaseURL(
        URL.create("postgresql+asyncpg", url.username, url.password, host, url.port, url.database),
        {"server_settings": {"application_name": APPLICATION_NAME}},
    )
    # The root certificate last: what it is for depends on the mode, wherever that stands.
    for name, value in sorted(url.query.items(), key=lambda pair: pair[0] == "sslrootcert"):
        if not isinstance(value, str):
            raise ValueError(f"Its parameter {name!r} is repeated.")
        found = _with_parameter(found, name, value)
    return _without_statement_cache(found) if _is_pooled(found) else found


def _with_parameter(found: DatabaseURL, name: str, value: str) -> DatabaseURL:
    if name in _DROPPED:
        return found
    if name not in _TRANSLATED:
        known = ", ".join(sorted({*_TRANSLATED, *_DROPPED}))
        raise ValueError(f"Its parameter {name!r} is unknown; known are {known}.")
    return _TRANSLATED[name](found, value)


def _sslmode(found: DatabaseURL, value: str) -> DatabaseURL:
    if value not in _SSL_MODES:
        raise ValueError(f"Its sslmode is {value!r}; it must be one of {', '.join(_SSL_MODES)}.")
    if value.startswith("verify-"):
        # asyncpg would look for ~/.postgresql/root.crt and fail without it; people who paste
        # verify-full mean the authorities their system trusts.
        context = ssl.create_default_context()
        context.check_hostname = value == "verify-full"
        return _with_arguments(found, ssl=context)
    return _with_arguments(found, ssl=value)


def _sslrootcert(found: DatabaseURL, value: str) -> DatabaseURL:
    mode = found.connect_args.get("ssl")
    if mode == "disable":
        return found
    if value == "system":
        return _with_arguments(found, ssl=ssl.create_default_context())
    try:
        context = ssl.create_default_context(cafile=value)
    except OSError:
        raise ValueError(f"Its sslrootcert {value!r} cannot be read.") from None
    context.check_hostname = mode.check_hostname if isinstance(mode, ssl.SSLContext) else False
    return _with_arguments(found, ssl=context)


def _application_name(found: DatabaseURL, value: str) -> DatabaseURL:
    return _with_server_setting(found, "application_name", value)


def _options(found: DatabaseURL, value: str) -> DatabaseURL:
    return _with_server_setting(found, "options", value)


def _connect_timeout(found: DatabaseURL, value: str) -> DatabaseURL:
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(
            f"Its connect_timeout is {value!r}; it must be a number of seconds, 1 or more."
        )
    return _with_arguments(found, timeout=float(value))


def _host(found: DatabaseURL, value: str) -> DatabaseURL:
    return DatabaseURL(found.url.set(host=value), found.connect_args, found.pooled)


def _pgbouncer(found: DatabaseURL, value: str) -> DatabaseURL:
    if value not in ("true", "false"):
        raise ValueError(f"Its pgbouncer is {value!r}; it must be true or false.")
    return DatabaseURL(found.url, found.connect_args, pooled=value == "true")


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

# asyncpg has no such arguments; it negotiates what the server asks for.
_DROPPED: Final = frozenset({"channel_binding", "gssencmode", "target_session_attrs"})


def _with_arguments(found: DatabaseURL, **arguments: Any) -> DatabaseURL:
    return DatabaseURL(found.url, {**found.connect_args, **arguments}, found.pooled)


def _with_server_setting(found: DatabaseURL, name: str, value: str) -> DatabaseURL:
    settings = {**found.connect_args["server_settings"], name: value}
    return _with_arguments(found, server_settings=settings)


def _is_pooled(found: DatabaseURL) -> bool:
    # Neon's pooled hosts: ep-cool-name-123456-pooler.region.aws.neon.tech
    return found.pooled or "-pooler." in (found.url.host or "")


def _without_statement_cache(found: DatabaseURL) -> DatabaseURL:
    # Both: asyncpg's cache and SQLAlchemy's own above it. With only the first, SQLAlchemy
    # returned wrong values after a column changed its type.
    arguments = {
        **found.connect_args,
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }
    return DatabaseURL(found.url, arguments, pooled=True)
