"""How many connections PostgreSQL allows the service, asked over a connection of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from persistence.urls import parse_database_url

SECONDS: Final = 10.0
"""How long connecting and the one statement may take together."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one role may open in one database.

    Attributes:
        allowed: the least of the server's limit without reserved connections, the role's limit,
            and the database's.
        maximum: the server's ``max_connections``.
        reserved: how many of these the role cannot use.
        others: connections of other roles that are open now.
        left: what the role may open beside those.
        is_pooled: the URL leads through PgBouncer, whose own limits count first.
    """

    allowed: int
    maximum: int
    reserved: int
    others: int
    left: int
    is_pooled: bool


async def read_capacity(url: str) -> Capacity:
    """Ask the database.

    Args:
        url: valid, as ``parse_database_url`` takes it.

    Raises:
        TimeoutError: it takes longer than ``SECONDS``.
        OSError: the server does not answer, or TLS fails.
        asyncpg.PostgresError: the server refuses.
        asyncpg.InterfaceError: it asks for a kind of authentication that asyncpg does not have.
    """
    database = parse_database_url(url)
    async with asyncio.timeout(SECONDS):
        connection = await database.connect()
        try:
            maximum, reserved, role, of_database, others = await connection.fetchrow(_SELECT)
        finally:
            connection.terminate()
    own = [limit for limit in (role, of_database) if limit >= 0]
    return Capacity(
        allowed=min([maximum - reserved, *own]),
        maximum=maximum,
        reserved=reserved,
        others=others,
        left=max(min([maximum - reserved - others, *own]), 0),
        is_pooled=database.pooled,
    )


# `reserved_connections` is new in PostgreSQL 16. A limit of -1 is none.
_SELECT: Final = """
SELECT
    current_setting('max_connections')::integer,
    CASE WHEN rolsuper THEN 0 ELSE
        current_setting('superuser_reserved_connections')::integer
        + coalesce(current_setting('reserved_connections', true), '0')::integer
    END,
    CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END,
    CASE WHEN rolsuper THEN -1 ELSE datconnlimit END,
    (SELECT count(*) FROM pg_stat_activity
        WHERE usename <> current_user AND (backend_type = 'client backend' OR backend_type IS NULL))
FROM pg_roles, pg_database
WHERE rolname = current_user AND datname = current_database()
"""
