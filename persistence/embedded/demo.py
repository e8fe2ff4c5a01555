"""A demo database for development: the auth server's tables, a user, a session and a task.

For the embedded server only. The database in DATABASE_URL has its own auth server.
"""

from __future__ import annotations

from typing import Final

from persistence.urls import parse_database_url

USER_ID: Final = "demo"

_AUTH_TABLES: Final = """
CREATE TABLE IF NOT EXISTS users (
    id         text PRIMARY KEY,
    email      text NOT NULL UNIQUE,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS user_sessions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    text NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash text NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    revoked    boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
"""

_USER: Final = """
INSERT INTO users (id, email, name) VALUES ($1, 'demo@example.com', 'Demo')
ON CONFLICT (id) DO NOTHING
"""

_SESSION: Final = """
INSERT INTO user_sessions (user_id, token_hash, expires_at)
VALUES ($1, $2, now() + interval '30 days')
ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at, revoked = false
"""

_NEWEST_TASK: Final = "SELECT id FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC"
_FIRST_TASK: Final = "INSERT INTO tasks (user_id, title) VALUES ($1, 'Say hello') RETURNING id"


async def create_database(server_url: str, name: str) -> None:
    """Create the database ``name`` on a server, unless it exists."""
    connection = await parse_database_url(server_url).connect()
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


async def seed(database_url: str, token_hash: str) -> int:
    """Create what is missing in a migrated database; renew the session for thirty days.

    Args:
        database_url: the database.
        token_hash: the hash of the demo session's token.

    Returns:
        The id of the user's newest task, which is created if there is none.
    """
    connection = await parse_database_url(database_url).connect()
    try:
        async with connection.transaction():
            await connection.execute(_AUTH_TABLES)
            await connection.execute(_USER, USER_ID)
            await connection.execute(_SESSION, USER_ID, token_hash)
            newest = await connection.fetchval(_NEWEST_TASK, USER_ID)
            return int(newest or await connection.fetchval(_FIRST_TASK, USER_ID))
    finally:
        await connection.close()
