"""The app that is compared, and its users and rows, without HTTP between."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
from fastapi import FastAPI

from api.app import create_app
from tests import model_results
from tests.conftest import settings_of_tests
from tests.lockstep.client import Client
from tests.operations import (
    Api,
    Operation,
)
from tests.people import token_hash
from tests.surfaces import (
    SURFACES,
    Response,
    authorization,
    idempotency_key,
)

LIMIT: Final = 1_000_000
"""Each user's budget of reads and of writes."""

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the event loop of the app, and returns its result."""


class RunningApp:
    """The app in this process on an event loop of its own, and a connection to its database.

    Attributes:
        run: runs a coroutine on that loop.
        sequences: how many sequences of operations were compared so far.
    """

    def __init__(self, app: FastAPI, sql: asyncpg.Connection, run: Run) -> None:
        self.run = run
        self.sequences = 0
        self._app = app
        self._sql = sql
        self._numbers = itertools.count()

    @classmethod
    @asynccontextmanager
    async def on(cls, database_url: str, run: Run) -> AsyncIterator[RunningApp]:
        """The app on a migrated database."""
        budgets = dict.fromkeys(("rate_limit_read", "rate_limit_write"), f"{LIMIT}/minute")
        settings = settings_of_tests(database_url=database_url, rate_limit_enabled=True, **budgets)
        app = create_app(settings)
        sql = await asyncpg.connect(database_url)
        async with app.router.lifespan_context(app):
            yield cls(app, sql, run)
        await sql.close()

    async def sign_in(self) -> tuple[dict[Api, Client], Client]:
        """New users: one for each API, who have no tasks, and another one, who has three."""
        number = next(self._numbers)
        clients = [
            Client(f"{name} {number}", secrets.token_urlsafe(32)) for name in (*Api, "other")
        ]
        *_, other = clients
        rows = await self._sql.fetch(
            _SIGN_IN,
            [client.user_id for client in clients],
            [token_hash(client.token) for client in clients],
        )
        for client in clients:
            for model_id, row in zip(model_results.FOREIGN_IDS, rows, strict=True):
                client.add_task(row["id"], model_id)
        return dict(zip(Api, clients, strict=False)), other

    async def insert(self, client: Client, tasks: list[model_results.Task]) -> None:
        """Store tasks of a client, all at the same time, without the app."""
        rows = await self._sql.fetch(
            _INSERT,
            client.user_id,
            [task.title for task in tasks],
            [task.description for task in tasks],
            [task.completed for task in tasks],
            [model_results.PRIORITIES.index(task.priority) for task in tasks],
            [task.due for task in tasks],
            [",".join(task.tags) for task in tasks],
        )
        for row in rows:
            client.add_task(row["id"])

    async def rows(self, *clients: Client) -> list[list[asyncpg.Record]]:
        """The stored tasks of each client."""
        rows = await self._sql.fetch(_ROWS, [client.user_id for client in clients])
        return [[row for row in rows if row["user_id"] == each.user_id] for each in clients]

    async def do(
        self, api: Api, operation: Operation, token: str, key: str | None = None
    ) -> Response:
        """Do an operation. Calls the app directly: httpx would take as long as the app does."""
        request = SURFACES[api].encode(operation)
        headers = {
            "host": "localhost", **authorization(token), **request.headers, **idempotency_key(key)
        }  # fmt: skip
        scope = {
            "type": "http",
            "method": request.method,
            "path": unquote(request.path),
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body or b""}

        async def send(message: Any) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        start, *bodies = messages
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Response(
            start["status"], headers, b"".join(each.get("body", b"") for each in bodies)
        )


_SIGN_IN: Final = """
WITH people AS (INSERT INTO users (id) SELECT unnest($1::text[])),
sessions AS (INSERT INTO user_sessions (user_id, token_hash, expires_at)
    SELECT id, hash, now() + interval '1 day' FROM unnest($1::text[], $2::text[]) _(id, hash))
INSERT INTO tasks (user_id, title, deleted_at)
    SELECT $1[3], 'other', CASE n WHEN 3 THEN now() END FROM generate_series(1, 3) n RETURNING id
"""

_INSERT: Final = """
INSERT INTO tasks (user_id, title, description, completed, priority, due_day, due_at, tags,
    tag_keys)
SELECT $1, title, description, completed, priority,
    CASE WHEN length(due) = 10 THEN due::date END,
    CASE WHEN length(due) > 10 THEN due::timestamptz END,
    string_to_array(tags, ','), string_to_array(tags, ',')
FROM unnest($2::text[], $3::text[], $4::boolean[], $5::int[], $6::text[], $7::text[])
    _(title, description, completed, priority, due, tags)
RETURNING id
"""

_ROWS: Final = "SELECT * FROM tasks WHERE user_id = ANY($1) ORDER BY id"
