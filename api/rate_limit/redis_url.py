"""`REDIS_URL` as a server to connect to."""

from __future__ import annotations

import ssl

from redis.asyncio.connection import parse_url

from api.rate_limit.redis_connection import RedisServer


def redis_server(url: str) -> RedisServer:
    """The server of a ``redis://``, ``rediss://`` or ``unix://`` URL."""
    parsed = parse_url(url)
    return RedisServer(
        host=parsed.get("host", "localhost"),
        port=parsed.get("port", 6379),
        path=parsed.get("path"),
        username=parsed.get("username"),
        password=parsed.get("password"),
        database=parsed.get("db", 0),
        tls=_tls_context() if url.startswith("rediss:") else None,
    )


def _tls_context() -> ssl.SSLContext:
    # Not ssl.create_default_context(), which writes session keys to the file SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context
