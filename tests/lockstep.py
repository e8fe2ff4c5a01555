"""Compares REST with GraphQL: two clients do the same operations, each through one of the APIs.

After each operation both answers and both sets of rows must be those of the model. Which
operations there are is not decided here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
from fastapi import FastAPI

from api.app import create_app
from tests import model, model_answers, operations
from tests.conftest import settings_of_tests
from tests.model import Model
from tests.model_answers import Answer, Expected, Failure, Problem, Success, TypeFailure
from tests.operations import (
    Api,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    Change,
    Create,
    Delete,
    Deleted,
    EmptyTrash,
    List,
    ListTrash,
    Operation,
)
from tests.people import token_hash
from tests.surfaces import (
    SURFACES,
    ApiError,
    Response,
    authorization,
    idempotency_key,
    is_replayed,
)

LIMIT: Final = 1_000_000
"""Each user's budget of reads and of writes."""

OTHER: Final = {Api.REST: Api.GRAPHQL, Api.GRAPHQL: Api.REST}

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the event loop of the app, and returns its result."""


class ServerError(Exception):
    """The app failed. That is never a difference between the APIs, but a defect."""


# --- A client -----------------------------------------------------------------------------


@dataclass
class Client:
    """A user, with the translation between the ids of the app and those of the model.

    Attributes:
        real_ids: the ids of the tasks, by the model's ids.
        model_ids: the model's ids, by the real ones.
        cursors: the cursors, by the model's.
        deletions: the positions in the trash, by the model's id of the task and its time.
        times: creation, latest change and completion of each task in the latest answer, by the
            model's id.
        messages: of the errors in the latest answer, by code.
        spent: how much of each budget was spent.
        created: how many tasks were created.
    """

    user_id: str
    token: str = field(repr=False)
    real_ids: dict[int, int] = field(default_factory=dict)
    model_ids: dict[int, int] = field(default_factory=dict)
    cursors: dict[model_answers.Cursor | model_answers.Deletion, str] = field(default_factory=dict)
    deletions: dict[tuple[int, str], model_answers.Deletion] = field(default_factory=dict)
    times: dict[int, tuple[str, str, str | None]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    created: int = 0

    def add_task(self, real_id: int, model_id: int | None = None) -> None:
        """Register a task; without an id of the model it is the next one of this user."""
        if model_id is None:
            self.created += 1
            model_id = self.created
        self.real_ids[model_id] = real_id
        self.model_ids[real_id] = model_id

    def add_cursor(
        self, position: model_answers.Cursor | model_answers.Deletion, cursor: str
    ) -> None:
        """Register the cursor of a position, which is the same in both APIs and at any time."""
        assert self.cursors.setdefault(position, cursor) == cursor

    def translate(self, operation: Operation) -> Operation:
        """An operation of the model, with the real ids and cursors."""
        match operation:
            case Create() | BulkCreate() | EmptyTrash():
                return operation
            case List({"cursor": model_answers.Cursor() as after} as query):
                query = query | {"cursor": self.cursors[after]}
                return replace(operation, query=query, detailed=True)
            case ListTrash({"cursor": model_answers.Deletion() as after} as query):
                query = query | {"cursor": self.cursors[after]}
                return replace(operation, query=query, detailed=True)
            case List() | ListTrash():
                return replace(operation, detailed=True)
            case BulkDelete(list(ids)) | BulkUpdate(list(ids)):
                return replace(operation, ids=[self._real_id(each) for each in ids])
            case BulkDelete() | BulkUpdate():
                return operation
        return replace(operation, id=self._real_id(operation.id))

    def _real_id(self, value: Any) -> Any:
        if isinstance(value, str):
            is_canonical = re.fullmatch("[1-9][0-9]{,8}", value)
            return str(self.real_ids.get(int(value), value)) if is_canonical else value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return type(value)(self.real_ids.get(value, value)) if is_number else value

    def read(self, api: Api, operation: Operation, response: Response) -> Answer:
        """The answer in a response, with the model's ids and cursors.

        Raises:
            AssertionError: the response contradicts itself or an earlier one.
            ServerError: the app failed.
        """
        self.times.clear()
        self.messages.clear()
        try:
            result = SURFACES[api].decode(operation, response)
        except ApiError as error:
            return self._failure(error)
        match result:
            case operations.Task():
                if isinstance(operation, Create):
                    self._add_new([result])
                return Success(self._task(result))
            case list():
                self._add_new(result)
                return Success([self._task(task) for task in result])
            case operations.Updated(updated, not_found):
                tasks = [self._task(task) for task in updated]
                return Success(model_answers.Updated(tasks, self._model_ids(not_found)))
            case operations.Page():
                order = None
                if isinstance(operation, List):
                    order = operation.query.get("order") or "created_desc"
                return Success(self._page(result, order))
            case int():
                return Success(result)
            case Deleted(deleted, not_found):
                return Success(Deleted(self._model_ids(deleted), self._model_ids(not_found)))
        return Success(None)

    def _add_new(self, tasks: list[operations.Task]) -> None:
        for task in tasks:
            if task.id not in self.model_ids:
                self.add_task(task.id)

    def _failure(self, error: ApiError) -> Failure | TypeFailure:
        problem = error.problem
        if problem["status"] >= 500:
            raise ServerError(problem)
        if problem.get("code") == "GRAPHQL_VALIDATION_FAILED":
            return TypeFailure(problem["type"], problem["status"])
        errors = problem.get("errors", [])
        self.messages.update({each["code"]: each["message"] for each in errors})
        positions = {cursor: position for position, cursor in self.cursors.items()}
        problems = [
            Problem(each["field"], each["code"], positions.get(str(each["value"]), each["value"]))
            for each in errors
        ]
        return Failure(
            problem["type"],
            problem["status"],
            self._detail(problem["detail"]),
            sorted(problems, key=lambda it: it.field),
        )

    def _detail(self, text: str) -> str:
        match = re.fullmatch("Task with ID ([0-9]{1,18}) not found", text)
        return text.replace(match[1], str(self._model_ids([match[1]])[0])) if match else text

    def _task(self, task: operations.Task, *, is_deleted: bool = False) -> model_answers.Task:
        assert task.user_id == self.user_id
        assert (task.deleted_at is not None) == is_deleted
        [model_id] = self._model_ids([task.id])
        self.times[model_id] = (task.created_at, task.updated_at, task.completed_at)
        assert (task.completed_at is not None) is task.completed
        values = (getattr(task, name) for name in (*operations.EDITABLE, "version"))
        return model_answers.Task(model_id, *values)

    def _page(self, page: operations.Page, order: str | None) -> model_answers.Page:
        """A page in an order, or of the trash."""
        tasks = [self._task(task, is_deleted=order is None) for task in page.tasks]
        positions: list[model_answers.Cursor | model_answers.Deletion]
        if order is None:
            times = [str(task.deleted_at) for task in page.tasks]
            positions = [
                self.deletions[task.id, time] for task, time in zip(tasks, times, strict=True)
            ]
        else:
            positions = [model.cursor_after(task, order) for task in tasks]
        for position, cursor in zip(positions, page.cursors or (), strict=page.cursors is not None):
            self.add_cursor(position, cursor)
        after = None
        if page.next_cursor is not None:
            after = positions[-1]
            self.add_cursor(after, page.next_cursor)
        return model_answers.Page(tasks, after, page.total, page.has_previous)

    def _model_ids(self, real_ids: list[Any]) -> list[int]:
        return [self.model_ids.get(int(each), int(each)) for each in real_ids]


# --- The app ------------------------------------------------------------------------------


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
            for model_id, row in zip(model_answers.FOREIGN_IDS, rows, strict=True):
                client.add_task(row["id"], model_id)
        return dict(zip(Api, clients, strict=False)), other

    async def insert(self, client: Client, tasks: list[model_answers.Task]) -> None:
        """Store tasks of a client, all at the same time, without the app."""
        rows = await self._sql.fetch(
            _INSERT,
            client.user_id,
            [task.title for task in tasks],
            [task.description for task in tasks],
            [task.completed for task in tasks],
            [model_answers.PRIORITIES.index(task.priority) for task in tasks],
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
        answered = {name.decode(): value.decode() for name, value in start["headers"]}
        return Response(
            start["status"], answered, b"".join(each.get("body", b"") for each in bodies)
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


# --- The comparison -----------------------------------------------------------------------


_OWN: Final = re.compile(r" \(byte [0-9]+\)$| to [01]$")


class Comparison:
    """Two clients that do the same operations, and the model of what they get and store."""

    def __init__(self, app: RunningApp) -> None:
        self.model = Model()
        self._app = app

    async def start(self) -> None:
        """Create the users."""
        self._clients, self._other = await self._app.sign_in()
        self._rows: dict[Api, dict[int, asyncpg.Record]] = {api: {} for api in Api}
        self._keyed: list[tuple[Operation, str, bool, dict[Api, Operation]]] = []

    async def add(self, number: int) -> None:
        """Give each client so many tasks."""
        tasks = self.model.add(number)
        for client in self._clients.values():
            await self._app.insert(client, tasks)
        await self._require_rows()

    async def do(self, operation: Operation, swapped: bool = False, key: str | None = None) -> None:
        """Do an operation as each client.

        Args:
            swapped: each client uses the other API this once.
            key: an idempotency key, the same of both clients.

        Raises:
            AssertionError: the APIs differ from the model.
        """
        if (
            isinstance(operation, List)
            and operation.query.get("cursor") == model_answers.FOREIGN_CURSOR
        ):
            await self._share_a_foreign_cursor()
        clients = self._using(swapped)
        translated = {api: client.translate(operation) for api, client in clients.items()}
        if key is not None:
            self._keyed.append((operation, key, swapped, translated))
        await self._send(operation, key, swapped, translated)

    async def repeat(self, index: int) -> None:
        """Send the same requests again that were sent with a key, counted from the latest."""
        if self._keyed:
            await self._send(*self._keyed[-1 - index % len(self._keyed)])

    async def vary(self, index: int, how: str) -> None:
        """Send almost the same requests again, with the same key.

        Args:
            how: what differs: ``"version"``, ``"method"`` or ``"protocol"``.
        """
        if not self._keyed:
            return
        operation, key, swapped, _ = self._keyed[-1 - index % len(self._keyed)]
        match operation, how:
            case ((Change() | Delete()), "version"):
                operation = replace(operation, version=(operation.version or 0) % 3 + 1)
            case Change(whole=whole), "method":
                operation = replace(operation, whole=not whole)
            case _, "protocol":
                swapped = not swapped
            case _:
                return
        await self.do(operation, swapped, key)

    def _using(self, swapped: bool) -> dict[Api, Client]:
        """The clients, by the API that each uses."""
        return {OTHER[api] if swapped else api: each for api, each in self._clients.items()}

    async def _send(
        self,
        operation: Operation,
        key: str | None,
        swapped: bool,
        translated: dict[Api, Operation],
    ) -> None:
        if key is None:
            expected = self.model.do(operation)
        else:
            expected = self.model.do_once(operation, key, swapped)
        clients = self._using(swapped)
        responses = await asyncio.gather(
            *(self._app.do(api, translated[api], clients[api].token, key) for api in clients)
        )
        for (api, client), response in zip(clients.items(), responses, strict=True):
            answer = client.read(api, translated[api], response)
            assert answer == expected[api].answer, f"{operation!r} through {api}: {response}"
            assert is_replayed(api, response) is expected[api].is_replayed, response
            if expected[api].is_replayed:
                client.times.clear()  # They are those of then.
            _require_charge(api, client, expected[api], response)
        self._require_same_messages()
        await self._require_rows()

    async def _share_a_foreign_cursor(self) -> None:
        page = List({"limit": 1})
        response = await self._app.do(Api.REST, page, self._other.token)
        self._other.read(Api.REST, page, response)
        assert len(self._other.cursors) == 1
        [cursor] = self._other.cursors.values()
        for client in self._clients.values():
            client.add_cursor(model_answers.FOREIGN_CURSOR, cursor)

    def _require_same_messages(self) -> None:
        rest, graphql = (self._clients[api].messages for api in Api)
        for code in rest.keys() & graphql.keys():
            # The same text is at another place in another body, and GraphQL has pages of none.
            assert _OWN.sub("", rest[code]) == _OWN.sub("", graphql[code]), code

    async def _require_rows(self) -> None:
        *rows_by_api, foreign = await self._app.rows(*self._clients.values(), self._other)
        assert [(row["title"], row["version"]) for row in foreign] == [("other", 1)] * 3
        assert [row["deleted_at"] is None for row in foreign] == [True, True, False]
        for api, rows in zip(Api, rows_by_api, strict=True):
            model_ids = self._clients[api].model_ids
            stored = {model_ids[row["id"]]: row for row in rows if row["id"] in model_ids}
            assert len(stored) == len(rows), f"{api} stored a task that it did not answer"
            for is_deleted, expected in ((False, self.model.tasks), (True, self.model.trash)):
                tasks = {
                    model_id: _task(model_id, row)
                    for model_id, row in stored.items()
                    if (row["deleted_at"] is not None) is is_deleted
                }
                assert tasks == expected, api
            self._require_times(api, stored)
            self._note_deletions(api, stored)
            self._rows[api] = stored

    def _require_times(self, api: Api, stored: dict[int, asyncpg.Record]) -> None:
        """Require that a version's times never change, and that the answer has them exactly."""
        earlier = self._rows[api]
        for model_id, row in stored.items():
            before = earlier.get(model_id)
            if before is None:
                assert row["created_at"] == row["updated_at"]
                assert _completed_at(row) in (None, row["created_at"])
            elif before["version"] == row["version"]:
                assert {**before, "deleted_at": row["deleted_at"]} == {**row}
                assert before["deleted_at"] in (None, row["deleted_at"])
            else:
                assert before["created_at"] == row["created_at"]
                assert before["updated_at"] < row["updated_at"]
                since = _completed_at(before) or row["updated_at"]
                assert _completed_at(row) == (since if row["completed"] else None)
        for model_id, times in self._clients[api].times.items():
            row = stored.get(model_id) or earlier[model_id]
            completed_at = _completed_at(row)
            assert times == (
                _rfc3339(row["created_at"]),
                _rfc3339(row["updated_at"]),
                completed_at and _rfc3339(completed_at),
            )

    def _note_deletions(self, api: Api, stored: dict[int, asyncpg.Record]) -> None:
        for model_id, position in self.model.deletions.items():
            if model_id in self.model.trash:
                row = stored[model_id]
                assert row["deleted_at"] >= row["updated_at"]
                times = self._clients[api].deletions
                time = (model_id, _rfc3339(row["deleted_at"]))
                assert times.setdefault(time, position) == position


def _require_charge(api: Api, client: Client, expected: Expected, response: Response) -> None:
    """Require the charge to the right budget, in the headers and in GraphQL's extensions."""
    kind = expected.charged
    client.spent[kind] += expected.amount
    remaining = LIMIT - client.spent[kind]
    assert response.headers["ratelimit-policy"].startswith(f'"{kind}";'), response
    assert response.headers["x-ratelimit-remaining"] == str(remaining), response
    if api is Api.GRAPHQL:
        cost = {**response.json["extensions"]["cost"], "reset": None}
        assert cost == {
            "kind": kind, "requested": expected.amount, "remaining": remaining, "reset": None
        }, response  # fmt: skip


def _task(model_id: int, row: asyncpg.Record) -> model_answers.Task:
    assert row["tag_keys"] == [tag.casefold() for tag in row["tags"]]
    return model_answers.Task(
        model_id,
        row["title"],
        row["description"],
        row["completed"],
        _due(row),
        model_answers.PRIORITIES[row["priority"]],
        row["tags"],
        row["version"],
    )


def _completed_at(row: asyncpg.Record) -> datetime | None:
    """When a task was completed. One that the app did not write lacks it."""
    completed_at: datetime | None = row["completed_at"]
    return completed_at or row["updated_at"] if row["completed"] else completed_at


def _due(row: asyncpg.Record) -> str | None:
    if row["due_day"] is not None:
        return str(row["due_day"])
    return row["due_at"] and _rfc3339(row["due_at"])


def _rfc3339(instant: datetime) -> str:
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
