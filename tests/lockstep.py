"""Ada's life through REST and Grace's through GraphQL: the same, step by step, or it is said where.

Knows what has to hold after a step; knows not which steps there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
from fastapi import FastAPI

from api.app import create_app
from tests import model
from tests.conftest import HASH_SECRET, settings_of_tests
from tests.doors import ASK, READ, Life, Received, Sent
from tests.model import Door, Kind, Model, Operation

ALLOWED: Final = 1_000_000
"""How much of each budget everyone has."""

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end on the house's loop."""


# --- The house ----------------------------------------------------------------------------


class House:
    """The app in this process, on an event loop of its own, and a look behind its back."""

    def __init__(self, app: FastAPI, sql: asyncpg.Connection, run: Run) -> None:
        self.run = run
        self._app = app
        self._sql = sql
        self._numbers = itertools.count()
        self.lived = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, run: Run) -> AsyncIterator[House]:
        """A house on a migrated database."""
        budgets = dict.fromkeys(("rate_limit_read", "rate_limit_write"), f"{ALLOWED}/minute")
        app = create_app(settings_of_tests(database_url=url, rate_limit_enabled=True, **budgets))
        sql = await asyncpg.connect(url)
        async with app.router.lifespan_context(app):
            yield cls(app, sql, run)
        await sql.close()

    async def move_in(self) -> tuple[dict[Door, Life], Life]:
        """Ada and Grace, who have nothing yet, and Eve, who has two tasks."""
        number = next(self._numbers)
        people = [
            Life(f"{name} {number}", secrets.token_urlsafe(32)) for name in ("ada", "grace", "eve")
        ]
        ada, grace, eve = people
        digests = [_digest(life.token) for life in people]
        eves = await self._sql.fetch(_MOVE_IN, [life.user_id for life in people], digests)
        for life in people:
            for ours, row in zip(model.STRANGERS, eves, strict=True):
                life.learn(ours, row["id"])
        return {Door.REST: ada, Door.GRAPHQL: grace}, eve

    async def answer(self, sent: Sent, life: Life) -> Received:
        """Send a request in someone's name. Straight to the app: httpx takes as long as it does."""
        headers = {"host": "localhost", "authorization": f"Bearer {life.token}", **sent.headers}
        if sent.body:
            headers["content-type"] = "application/json"
        scope = {
            "type": "http",
            "method": sent.method,
            "path": unquote(sent.path),
            "raw_path": sent.path.encode(),
            "query_string": sent.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": (sent.body or "").encode()}

        async def send(message: Any) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        start, *bodies = messages
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in bodies)
        return Received(start["status"], answered, json.loads(body) if body else None)

    async def bequeath(self, lives: Iterable[Life], tasks: list[model.Task]) -> None:
        """Give everyone tasks that were all made at once, behind the app's back."""
        for life in lives:
            rows = await self._sql.fetch(
                _BEQUEATH,
                life.user_id,
                [task.title for task in tasks],
                [task.description for task in tasks],
                [task.completed for task in tasks],
            )
            for row in rows:
                life.made += 1
                life.learn(life.made, row["id"])

    async def rows(self, lives: list[Life]) -> list[list[asyncpg.Record]]:
        """What is stored of everyone's."""
        rows = await self._sql.fetch(_ROWS, [life.user_id for life in lives])
        return [[row for row in rows if row["user_id"] == life.user_id] for life in lives]


def _digest(token: str) -> str:
    return hmac.new(HASH_SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()


_MOVE_IN: Final = """
WITH people AS (INSERT INTO users (id) SELECT unnest($1::text[])),
sessions AS (INSERT INTO user_sessions (user_id, token_hash, expires_at)
    SELECT id, hash, now() + interval '1 day' FROM unnest($1::text[], $2::text[]) _(id, hash))
INSERT INTO tasks (user_id, title) SELECT $1[3], 'hands off' FROM generate_series(1, 2) RETURNING id
"""

_BEQUEATH: Final = """
INSERT INTO tasks (user_id, title, description, completed)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::boolean[]) RETURNING id
"""

_ROWS: Final = "SELECT * FROM tasks WHERE user_id = ANY($1) ORDER BY id"


# --- What has to hold after each step ------------------------------------------------------


class Lives:
    """Ada's and Grace's, step by step the same, beside the model's."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.model = Model()

    async def begin(self) -> None:
        """Ada and Grace move in."""
        self._lives, self._eve = await self._house.move_in()
        self._rows: dict[Door, dict[int, asyncpg.Record]] = {door: {} for door in Door}

    async def inherit(self, number: int) -> None:
        """Ada and Grace get so many tasks."""
        tasks = self.model.inherit(number)
        await self._house.bequeath(self._lives.values(), tasks)
        await self._require_rows()

    async def do(self, asked: Operation) -> None:
        """Each does the same at her door; an ``AssertionError`` says where they are not equal."""
        if isinstance(asked, model.List) and asked.query.get("cursor") == model.LONG_AGO:
            await self._borrow_a_cursor()
        expected = self.model.do(asked)
        at = {home: _door(home, asked) for home in Door}
        received = await asyncio.gather(*(self._ask(home, at[home], asked) for home in Door))
        for home, answer in zip(Door, received, strict=True):
            door, life = at[home], self._lives[home]
            found = READ[door](asked, answer, life)
            assert found == expected[door].answer, f"{asked!r} at {door}: {answer}"
            _require_price(door, life, expected[door].paid_with, answer)
        self._require_same_words()
        await self._require_rows()

    async def _ask(self, home: Door, door: Door, asked: Operation) -> Received:
        life = self._lives[home]
        life.times.clear()
        life.messages.clear()
        return await self._house.answer(ASK[door](asked, life), life)

    async def _borrow_a_cursor(self) -> None:
        page = model.List({"limit": 1})
        received = await self._house.answer(ASK[Door.REST](page, self._eve), self._eve)
        READ[Door.REST](page, received, self._eve)
        assert len(self._eve.cursors) == 1, received
        for life in self._lives.values():
            life.learn_cursor(model.LONG_AGO, *self._eve.cursors.values())

    def _require_same_words(self) -> None:
        ada, grace = (self._lives[door].messages for door in Door)
        assert {code: ada[code] for code in ada.keys() & grace} == {
            code: grace[code] for code in ada.keys() & grace
        }

    async def _require_rows(self) -> None:
        *rows_by_door, eves = await self._house.rows([*self._lives.values(), self._eve])
        assert [(row["title"], row["version"]) for row in eves] == [("hands off", 1)] * 2
        for door, rows in zip(Door, rows_by_door, strict=True):
            life = self._lives[door]
            stored = {life.ours[row["id"]]: row for row in rows if row["id"] in life.ours}
            tasks = [_task(ours, row) for ours, row in stored.items()]
            assert len(stored) == len(rows), f"{door} stored what it did not answer with"
            assert tasks == [task for _, task in sorted(self.model.tasks.items())], door
            self._require_times(door, stored)
            self._rows[door] = stored

    def _require_times(self, door: Door, stored: dict[int, asyncpg.Record]) -> None:
        """A version's times never change; and they are what the answer said, to the byte."""
        known = self._rows[door]
        for ours, row in stored.items():
            before = known.get(ours)
            if before is None:
                assert row["created_at"] == row["updated_at"]
            elif before["version"] == row["version"]:
                assert before == row
            else:
                assert before["created_at"] == row["created_at"]
                assert before["updated_at"] < row["updated_at"]
        for ours, times in self._lives[door].times.items():
            row = stored.get(ours) or known[ours]
            assert times == (_rfc3339(row["created_at"]), _rfc3339(row["updated_at"]))


def _door(home: Door, asked: Operation) -> Door:
    elsewhere = isinstance(asked, model.List) and asked.elsewhere
    return {Door.REST: Door.GRAPHQL, Door.GRAPHQL: Door.REST}[home] if elsewhere else home


def _require_price(door: Door, life: Life, paid_with: Kind, answer: Received) -> None:
    """One of the right kind, as the headers say, and in GraphQL the extensions, too."""
    life.spent[paid_with] += 1
    remaining = ALLOWED - life.spent[paid_with]
    assert answer.headers["ratelimit-policy"].startswith(f'"{paid_with}";'), answer
    assert answer.headers["x-ratelimit-remaining"] == str(remaining), answer
    if door is Door.GRAPHQL:
        cost = {**answer.json["extensions"]["cost"], "reset": None}
        assert cost == {
            "kind": paid_with, "requested": 1, "remaining": remaining, "reset": None
        }, answer  # fmt: skip


def _task(ours: int, row: asyncpg.Record) -> model.Task:
    return model.Task(ours, row["title"], row["description"], row["completed"], row["version"])


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
