"""Measures each operation with a far database: round trips and milliseconds, warm and at first.

    python -m benchmarks.latency [milliseconds of a round trip]

At first means: on a new connection to the database, with a token that is not cached. The proxy
in between uses no TLS, which would add two round trips to opening a connection.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.operations import (
    CHANGE,
    CREATE,
    DELETE,
    DELETE_MANY,
    GET,
    list_of,
    message,
    on_task,
)
from benchmarks.service import TOKEN, database, running_service
from tests.operations import Api, Operation
from tests.trips import TripCounter

ROUNDS: Final = 5

WITH_KEY: Final = " with a key"
"""Ends the names of operations that have an idempotency key."""

OPERATIONS: Final = (
    "list 50", GET, "create", f"create{WITH_KEY}", CHANGE, f"{CHANGE}{WITH_KEY}",
    DELETE, f"{DELETE}{WITH_KEY}", DELETE_MANY,
)  # fmt: skip


def operation_on(name: str, task_id: int) -> Operation:
    """The operation of this name, on a task if it needs one."""
    name = name.removesuffix(WITH_KEY)
    return {"list 50": list_of(50), "create": CREATE, **on_task(task_id)}[name]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one request."""

    trips: float
    milliseconds: float

    def __str__(self) -> str:
        return f"{self.trips:5.0f}{self.milliseconds:9.1f}"


class Caller:
    """A client with one connection to the service."""

    def __init__(
        self, trips: TripCounter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._trips = trips
        self._reader = reader
        self._writer = writer

    async def warm(self, api: Api, name: str) -> Cost:
        """The cost of an operation after the same operation."""
        costs = []
        for _ in range(ROUNDS):
            await self._cost(await self._message(api, name))
            costs.append(await self._cost(await self._message(api, name)))
        return _median(costs)

    async def at_first(self, api: Api, name: str) -> Cost:
        """The cost of an operation with a new token and without a connection to the database."""
        costs = []
        for _ in range(ROUNDS):
            request = _with_new_token(await self._message(api, name))
            await self._trips.drop()
            costs.append(await self._cost(request))
        return _median(costs)

    async def _message(self, api: Api, name: str) -> bytes:
        made = message(api, operation_on(name, await self._new_task()))
        if not name.endswith(WITH_KEY):
            return made
        header = f"\r\nidempotency-key: {secrets.token_hex(16)}\r\n\r\n"
        return made.replace(b"\r\n\r\n", header.encode(), 1)

    async def _new_task(self) -> int:
        task_id: int = json.loads(await self._body_of(message(Api.REST, CREATE)))["id"]
        return task_id

    async def _cost(self, request: bytes) -> Cost:
        trips, started = self._trips.count, time.perf_counter()
        await self._body_of(request)
        return Cost(self._trips.count - trips, (time.perf_counter() - started) * 1000)

    async def _body_of(self, request: bytes) -> bytes:
        self._writer.write(request)
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


def _with_new_token(request: bytes) -> bytes:
    # Without a secret the service ignores the signature, but caches each form of the token.
    signature = secrets.token_hex(21) + "A="
    return request.replace(TOKEN.encode(), f"{TOKEN}.{signature}".encode())


@asynccontextmanager
async def calling(trips: TripCounter, cache_seconds: int) -> AsyncIterator[Caller]:
    """A service on the far database, and a client of it."""
    with ExitStack() as stack:
        settings = {
            "SESSION_CACHE_SECONDS": str(cache_seconds),
            "RATE_LIMIT_ENABLED": "false",
            "SQLALCHEMY_POOL_SIZE": "1",
        }
        # In another thread: the proxy needs this one.
        running = running_service(trips.url, **settings)
        service = await asyncio.to_thread(stack.enter_context, running)
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        yield Caller(trips, reader, writer)
        writer.close()


async def main(url: str, delay: float) -> None:
    """Print a table for each setting of the cache."""
    async with TripCounter.before(url, delay) as trips:
        for cache_seconds in (0, 30):
            print(f"\nSESSION_CACHE_SECONDS={cache_seconds}, {delay * 1000:g} ms a round trip")
            print(f"{'':26}{'warm':>5}{'ms':>9}{'first':>7}{'ms':>7}")
            async with calling(trips, cache_seconds) as caller:
                for name in OPERATIONS:
                    for api in Api:
                        warm = await caller.warm(api, name)
                        first = await caller.at_first(api, name)
                        print(f"{name:18}{api:8}{warm}{first}", flush=True)


if __name__ == "__main__":
    with database(tasks=50) as data:
        asyncio.run(main(data.url, float(sys.argv[1] if len(sys.argv) > 1 else 20) / 1000))
