"""Clients that repeat each write until it is answered; a proxy that loses half of the responses.

What they were answered is judged at the end, against the database.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx

from tests.operations import Api, Change, Create, Delete, Operation
from tests.surfaces import SURFACES, Response, authorization, idempotency_key

RETRY_SECONDS: Final = 60.0
"""Seconds for which a client repeats one write."""

RETRIED: Final = frozenset({409, 429, 502, 503, 504})


# --- The proxy ----------------------------------------------------------------------------


class LosingProxy:
    """Passes connections to one of several servers, and loses some, before or after the work.

    Attributes:
        url: of the proxy.
        fates: what became of the connections so far.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.url = ""
        self.fates: Counter[str] = Counter()
        self._ports = ports

    @classmethod
    @asynccontextmanager
    async def before(cls, *ports: int) -> AsyncIterator[LosingProxy]:
        """Listen in front of servers on these ports of 127.0.0.1."""
        proxy = cls(ports)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1")
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        [fate] = random.choices(
            ["passed", "delayed", "reset before", "reset after", "truncated"], [70, 8, 6, 9, 7]
        )
        self.fates[fate] += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            if fate != "reset before":
                await self._pass(reader, writer, fate)
        writer.transport.abort() if fate in _LOST else writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: str
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ),
            0,
        )
        request = head + await reader.readexactly(length)
        if fate == "delayed":
            await asyncio.sleep(random.uniform(0.01, 0.3))
        from_server, to_server = await asyncio.open_connection(
            "127.0.0.1", random.choice(self._ports)
        )
        try:
            to_server.write(request)
            response = await from_server.read() if fate != "reset after" else b""
            if fate == "reset after":
                # Some are lost while the statement runs, some when it is done.
                with suppress(TimeoutError):
                    await asyncio.wait_for(from_server.read(1), random.uniform(0, 0.02))
            cut = (
                random.randrange(1, max(2, len(response))) if fate == "truncated" else len(response)
            )
            writer.write(response[:cut])
            await writer.drain()
        finally:
            to_server.close()


_LOST: Final = ("reset before", "reset after", "truncated")


# --- The clients --------------------------------------------------------------------------


@dataclass(slots=True)
class Retrying:
    """Clients of both protocols that repeat each write, with or without a key.

    Attributes:
        acknowledged: how many writes were.
        attempts: how many requests were sent.
        wrong: final responses that are not those of a first attempt.
        differing: responses to one write that differ from each other.
        expected: the version at which a task has to be, by its title; 0 if it was deleted.
    """

    url: str
    tokens: Sequence[str]
    has_keys: bool
    acknowledged: int = 0
    attempts: int = 0
    wrong: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    expected: dict[str, int] = field(default_factory=dict)

    async def run(self, writes: int, clients: int = 16) -> None:
        """Write until so many writes were acknowledged."""
        await asyncio.gather(*(self._work(number, writes) for number in range(clients)))

    async def _work(self, number: int, writes: int) -> None:
        api = [*Api][number % 2]
        token = self.tokens[number % len(self.tokens)]
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=15) as client:
            while self.acknowledged < writes:
                await self._write_one_task(client, api, token)

    async def _write_one_task(self, client: httpx.AsyncClient, api: Api, token: str) -> None:
        title = secrets.token_hex(8)
        created = await self._do(client, api, token, Create({"title": title}))
        self.expected[title] = 1
        if created is None:
            return
        task_id = str(created["id"])
        await self._do(client, api, token, Change(task_id, {"completed": True}, 1))
        self.expected[title] = 2
        if random.random() < 0.3:
            await self._do(client, api, token, Delete(task_id, 2))
            self.expected[title] = 0

    async def _do(
        self, client: httpx.AsyncClient, api: Api, token: str, operation: Operation
    ) -> Any:
        """Send a write until it is answered, and sometimes once more; the task it answers."""
        key = secrets.token_hex(16) if self.has_keys else None
        first = await self._send(client, api, token, operation, key)
        if not 200 <= first.status < 300 or (api is Api.GRAPHQL and "errors" in first.json):
            self.wrong.append(f"{operation} {first.status} {first.body[:300]!r}")
            return None
        self.acknowledged += 1
        if key is not None and random.random() < 0.1:
            again = await self._send(client, api, token, operation, key)
            if _essence(api, again) != _essence(api, first):
                self.differing.append(f"{operation} {first} {again}")
        return first.json if api is Api.REST else first.json["data"]["result"]

    async def _send(
        self,
        client: httpx.AsyncClient,
        api: Api,
        token: str,
        operation: Operation,
        key: str | None,
    ) -> Response:
        request = SURFACES[api].encode(operation)
        headers = {
            **authorization(token),
            **request.headers,
            **idempotency_key(key),
            # The proxy passes what the server sends until it closes.
            "connection": "close",
        }
        pause = 0.02
        async with asyncio.timeout(RETRY_SECONDS):
            while True:
                self.attempts += 1
                with suppress(httpx.TransportError):
                    received = await client.request(
                        request.method, request.target, content=request.body, headers=headers
                    )
                    response = Response(received.status_code, received.headers, received.content)
                    if not _is_retried(api, response):
                        return response
                await asyncio.sleep(random.uniform(0, pause))
                pause = min(pause * 2, 1)

    async def assert_exact(self, sql: asyncpg.Connection) -> None:
        """Require that each acknowledged write is stored, once, and was always answered the same.

        Args:
            sql: a connection to the database, which has no other tasks.
        """
        stored: dict[str, list[int]] = {}
        for title, version in await sql.fetch(_LIVING):
            stored.setdefault(title, []).append(version)
        twice = [title for title, versions in stored.items() if len(versions) > 1]
        lost = [
            (title, stored.get(title), version)
            for title, version in self.expected.items()
            if stored.get(title, [0])[0] != version
        ]
        counts = {
            "acknowledged": self.acknowledged,
            "attempts": self.attempts,
            "lost": len(lost),
            "twice": len(twice),
            "wrong": len(self.wrong),
            "differing": len(self.differing),
        }
        print(counts)
        examples = (lost[:3], twice[:3], self.wrong[:3], self.differing[:3])
        assert not any(examples), (counts, examples)
        assert stored.keys() <= self.expected.keys()


def _is_retried(api: Api, response: Response) -> bool:
    if response.status in RETRIED:
        return True
    errors = response.json.get("errors", []) if api is Api.GRAPHQL else []
    return any(error["extensions"]["status"] in RETRIED for error in errors)


def _essence(api: Api, response: Response) -> Any:
    """What is the same in each response to a write."""
    if api is Api.GRAPHQL:
        return response.status, response.json["data"]
    headers = [response.headers.get(name) for name in ("etag", "location")]
    return response.status, response.body, headers


_LIVING: Final = "SELECT title, version FROM tasks WHERE deleted_at IS NULL"
