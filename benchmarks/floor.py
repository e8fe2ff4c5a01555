"""The floor: what the same responses cost with no framework and no check but the session's.

A bare ASGI app under uvicorn, and one asyncpg statement for each request with the session's check
inside it. No budget, no validation, no limits, no error catalogue, and of its pool only that each
statement has a connection: what ``twofold serve`` costs more is the price of its promises.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import asyncpg
import msgspec

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

CONNECTIONS: Final = 16
"""Connections to PostgreSQL; the requests at the same time must not be more."""

_TASK: Final = """
t.id, t.user_id, t.title, t.description, t.completed, t.version, t.created_at, t.updated_at,
coalesce(to_char(t.due_day, 'YYYY-MM-DD'),
    to_char(timezone('UTC', t.due_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS due,
('{none,low,medium,high}'::text[])[t.priority + 1] AS priority, t.tags, t.completed_at
"""

_SESSION: Final = "s.token_hash = $1 AND NOT s.revoked AND s.expires_at > now()"

_GET: Final = f"""
SELECT {_TASK} FROM user_sessions s JOIN tasks t ON t.user_id = s.user_id
WHERE {_SESSION} AND t.id = $2
"""  # noqa: S608

_LIST: Final = f"""
SELECT {_TASK} FROM user_sessions s JOIN tasks t ON t.user_id = s.user_id
WHERE {_SESSION} ORDER BY t.created_at DESC, t.id DESC LIMIT $2
"""  # noqa: S608

_CREATE: Final = f"""
INSERT INTO tasks AS t (user_id, title) SELECT s.user_id, $2 FROM user_sessions s WHERE {_SESSION}
RETURNING {_TASK}
"""  # noqa: S608

_encode = msgspec.json.Encoder().encode


class Floor:
    """The ASGI app. ``DATABASE_URL`` and ``SESSION_HASH_SECRET`` come from the environment."""

    def __init__(self) -> None:
        self._secret = os.environ["SESSION_HASH_SECRET"].encode()
        self._connections: list[asyncpg.Connection] = []

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or open and close the pool."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await self._respond(scope, receive)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        url = os.environ["DATABASE_URL"]
        self._connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for connection in self._connections:
            await connection.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, scope: dict[str, Any], receive: Receive) -> bytes:
        path: str = scope["path"]
        if path == "/health/ready":
            return b"{}"
        digest = self._digest(scope)
        if path == "/graphql":
            document = msgspec.json.decode((await receive())["body"])
            variables = document["variables"]
            if "first" in variables:
                tasks = await self._fetch(_LIST, digest, variables["first"])
                return _encode({"data": {"tasks": {"nodes": [dict(task) for task in tasks]}}})
            [task] = await self._fetch(_CREATE, digest, variables["input"]["title"])
            return _encode({"data": {"createTask": dict(task)}})
        if scope["method"] == "POST":
            title = msgspec.json.decode((await receive())["body"])["title"]
            [task] = await self._fetch(_CREATE, digest, title)
            return _encode(dict(task))
        if path == "/tasks":
            limit = int(parse_qs(scope["query_string"])[b"limit"][0])
            tasks = await self._fetch(_LIST, digest, limit)
            return _encode([dict(task) for task in tasks])
        [task] = await self._fetch(_GET, digest, int(path.removeprefix("/tasks/")))
        return _encode(dict(task))

    def _digest(self, scope: dict[str, Any]) -> str:
        for name, value in scope["headers"]:
            if name == b"authorization":
                return hmac.new(self._secret, value[7:], hashlib.sha256).hexdigest()
        raise KeyError("authorization")

    async def _fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = self._connections.pop()
        records: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
        self._connections.append(connection)
        return records
