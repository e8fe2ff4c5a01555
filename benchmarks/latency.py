"""What a far database costs each operation: round trips and milliseconds, warm and at first.

    python -m benchmarks.latency [milliseconds of a round trip]

At first means: on a connection that is just being opened, for someone not seen before. The
proxy in between speaks plain text; TLS adds two round trips to opening a connection.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.house import TOKEN, database, house, request
from tests.trips import TripCounter

ROUNDS: Final = 5

Ask = Callable[[int], bytes]
"""The request for an operation on the task with this id."""


def rest(method: str, path: str, body: Callable[[int], Any] | None = None) -> Ask:
    """An operation of the REST door; ``{}`` in the path is the id."""
    return lambda task_id: request(
        method, path.format(task_id), json.dumps(body(task_id)).encode() if body else b""
    )


def graphql(document: str) -> Ask:
    """An operation of the GraphQL door, the id in a variable as clients send it."""
    return lambda task_id: request(
        "POST", "/graphql", json.dumps({"query": document, "variables": {"id": task_id}}).encode()
    )


_TASK: Final = "{ id userId title description completed version createdAt updatedAt }"

CREATE: Final = rest("POST", "/tasks", lambda _: {"title": "Water the plants"})

OPERATIONS: Final[dict[str, tuple[Ask, Ask]]] = {
    "list 50": (
        rest("GET", "/tasks?limit=50"),
        graphql(f"{{ tasks {{ nodes {_TASK} pageInfo {{ endCursor }} }} }}"),
    ),
    "get": (rest("GET", "/tasks/{}"), graphql(f"query ($id: ID!) {{ task(id: $id) {_TASK} }}")),
    "create": (
        CREATE,
        graphql(f'mutation {{ createTask(input: {{title: "Water the plants"}}) {_TASK} }}'),
    ),
    "change": (
        rest("PATCH", "/tasks/{}", lambda _: {"completed": True}),
        graphql(
            f"mutation ($id: ID!) {{ updateTask(id: $id, input: {{completed: true}}) {_TASK} }}"
        ),
    ),
    "delete": (
        rest("DELETE", "/tasks/{}"),
        graphql("mutation ($id: ID!) { deleteTask(id: $id) { id } }"),
    ),
    "delete many": (
        rest("POST", "/tasks/bulk-delete", lambda task_id: {"task_ids": [task_id]}),
        graphql("mutation ($id: ID!) { deleteTasks(ids: [$id]) { deleted } }"),
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request took."""

    trips: float
    milliseconds: float

    def __str__(self) -> str:
        return f"{self.trips:5.0f}{self.milliseconds:9.1f}"


class Caller:
    """Somebody on one kept-alive connection to the server."""

    def __init__(
        self, trips: TripCounter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._trips = trips
        self._reader = reader
        self._writer = writer

    async def warm(self, ask: Ask) -> Cost:
        """A request by someone who has just been here."""
        costs = []
        for _ in range(ROUNDS):
            message = ask(await self._new_task())
            await self._cost(message)
            costs.append(await self._cost(ask(await self._new_task())))
        return _median(costs)

    async def at_first(self, ask: Ask) -> Cost:
        """A request by someone who was never here, when there is no connection."""
        costs = []
        for _ in range(ROUNDS):
            message = _as_someone_new(ask(await self._new_task()))
            await self._trips.drop()
            costs.append(await self._cost(message))
        return _median(costs)

    async def _new_task(self) -> int:
        task_id: int = json.loads(await self._answer(CREATE(0)))["id"]
        return task_id

    async def _cost(self, message: bytes) -> Cost:
        trips, started = self._trips.count, time.perf_counter()
        await self._answer(message)
        return Cost(self._trips.count - trips, (time.perf_counter() - started) * 1000)

    async def _answer(self, message: bytes) -> bytes:
        self._writer.write(message)
        head = await self._reader.readuntil(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await self._reader.readexactly(int(headers.get(b"content-length", 0)))
        if not head.startswith(b"HTTP/1.1 2") or b'"errors"' in body:
            raise RuntimeError((head + body).decode())
        return body


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.trips for cost in costs),
        statistics.median(cost.milliseconds for cost in costs),
    )


def _as_someone_new(message: bytes) -> bytes:
    # Each signature, which nobody checks here, makes another token of the same session.
    signature = secrets.token_hex(21) + "A="
    return message.replace(TOKEN.encode(), f"{TOKEN}.{signature}".encode())


@asynccontextmanager
async def calling(trips: TripCounter, cache_seconds: int) -> AsyncIterator[Caller]:
    """A server on the far database, and somebody who calls it."""
    with ExitStack() as stack:
        settings = {
            "SESSION_CACHE_SECONDS": str(cache_seconds),
            "RATE_LIMIT_ENABLED": "false",
            "SQLALCHEMY_POOL_SIZE": "1",
        }
        # In a thread: the proxy lives on this one.
        server = await asyncio.to_thread(stack.enter_context, house(trips.url, **settings))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        yield Caller(trips, reader, writer)
        writer.close()


async def main(url: str, delay: float) -> None:
    """Print a table for each setting of the cache."""
    async with TripCounter.before(url, delay) as trips:
        for cache_seconds in (0, 30):
            print(f"\nSESSION_CACHE_SECONDS={cache_seconds}, {delay * 1000:g} ms a round trip")
            print(f"{'':20}{'warm':>5}{'ms':>9}{'first':>7}{'ms':>7}")
            async with calling(trips, cache_seconds) as caller:
                for name, doors in OPERATIONS.items():
                    for door, ask in zip(("REST", "GraphQL"), doors, strict=True):
                        warm, at_first = await caller.warm(ask), await caller.at_first(ask)
                        print(f"{name:12}{door:8}{warm}{at_first}", flush=True)


if __name__ == "__main__":
    with database(tasks=50) as found:
        asyncio.run(main(found, float(sys.argv[1] if len(sys.argv) > 1 else 20) / 1000))
