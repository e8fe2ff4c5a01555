"""Compares REST with GraphQL: two clients do the same operations, each through one of the APIs.

After each operation both responses and both sets of rows must be those of the model. Which
operations there are is not decided here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

import asyncpg

from tests import model_results, operations
from tests.lockstep.client import Client
from tests.lockstep.running_app import LIMIT, RunningApp
from tests.model import Model
from tests.model_results import Expected, Kind
from tests.operations import (
    Api,
    Change,
    Delete,
    List,
    ListChanges,
    Operation,
)
from tests.surfaces import (
    SURFACES,
    ApiError,
    Response,
    is_replayed,
)

OTHER: Final = {Api.REST: Api.GRAPHQL, Api.GRAPHQL: Api.REST}

_LIMITS: Final = (1, 3, 1000)
"""The sizes of pages of changes, in turn."""

_OWN: Final = re.compile(r" \(byte [0-9]+\)$| to [01]$")


class Comparison:
    """Two clients that do the same operations, and the model of what they get and store."""

    def __init__(self, app: RunningApp) -> None:
        self.model = Model()
        self._steps = 0
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
        await self._follow()

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
            and operation.query.get("cursor") == model_results.FOREIGN_CURSOR
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
            result = client.read(api, translated[api], response)
            assert result == expected[api].result, f"{operation!r} through {api}: {response}"
            assert is_replayed(api, response) is expected[api].is_replayed, response
            if expected[api].is_replayed:
                client.times.clear()  # They are those of then.
            _require_charge(api, client, expected[api], response)
        self._require_same_messages()
        await self._require_rows()
        await self._follow()

    async def _share_a_foreign_cursor(self) -> None:
        page = List({"limit": 1})
        response = await self._app.do(Api.REST, page, self._other.token)
        self._other.read(Api.REST, page, response)
        assert len(self._other.cursors) == 1
        [cursor] = self._other.cursors.values()
        for client in self._clients.values():
            client.add_cursor(model_results.FOREIGN_CURSOR, cursor)

    async def present_anothers_token(self) -> None:
        """Ask each API for what changed since the other client's token."""
        for api, client in self._clients.items():
            query = ListChanges({"since": self._clients[OTHER[api]].since})
            response = await self._app.do(api, query, client.token)
            client.spent[Kind.READ] += 1
            with suppress(ApiError):
                SURFACES[api].decode(query, response)
                raise AssertionError(f"{api} took the token of another person")

    async def _follow(self) -> None:
        """Require that who only follows the changes has exactly the tasks of the model."""
        self._steps += 1
        limit = _LIMITS[self._steps % len(_LIMITS)]
        for api, client in self._clients.items():
            if self._steps % 4 == 0:
                # As a new client does.
                client.replica, client.since = {}, None
            pages = itertools.count()
            while await self._follow_page(api, client, limit):
                assert next(pages) <= self.model.created, "the pages of changes have no end"
            client.times.clear()
            assert client.replicated() == [task for _, task in sorted(self.model.tasks.items())]

    async def _follow_page(self, api: Api, client: Client, limit: int) -> bool:
        query = ListChanges({"since": client.since, "limit": limit})
        response = await self._app.do(api, query, client.token)
        client.spent[Kind.READ] += 1
        page = SURFACES[api].decode(query, response)
        assert isinstance(page, operations.Changes)
        assert len(page.tasks) == limit or not page.has_more
        client.apply(page)
        return page.has_more

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
            assert len(stored) == len(rows), f"{api} stored a task that it did not return"
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
        """Require that a version's times never change, and that the response has them exactly."""
        earlier = self._rows[api]
        for model_id, row in stored.items():
            before = earlier.get(model_id)
            if before is None:
                assert row["created_at"] == row["updated_at"]
                assert _completed_at(row) in (None, row["created_at"])
            elif before["version"] == row["version"]:
                moved = {name: row[name] for name in ("deleted_at", "seq")}
                assert {**before, **moved} == {**row}
                # A deletion is a change, and nothing else is one without a version.
                assert (before["deleted_at"] == row["deleted_at"]) == (before["seq"] == row["seq"])
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


def _task(model_id: int, row: asyncpg.Record) -> model_results.Task:
    assert row["tag_keys"] == [tag.casefold() for tag in row["tags"]]
    values = dict(row) | {
        "due": _due(row),
        "priority": model_results.PRIORITIES[row["priority"]],
    }
    names = (*operations.EDITABLE, "version")
    return model_results.Task(model_id, **{name: values[name] for name in names})


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
