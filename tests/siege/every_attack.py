"""A program that runs every known attack on one server at once, for a limited time.

It runs in a process of its own, so that the client that is measured does not share its event loop:
``python -m tests.siege.every_attack`` reads one JSON object (``Target``) from standard input, and
prints how many steps each attack made, how many responses had each status, and which responses were
errors of the server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

PAUSE: Final = 0.02
"""Seconds between two steps of one attack: the load stays bounded, and the machine responsive."""

HELD: Final = 60
"""The most connections that one attack keeps open."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to attack, and with whose sessions.

    Attributes:
        port: of the server, on 127.0.0.1.
        seconds: how long to go on.
        spent: tokens of people whose budget the attacks spend at once.
        hoarder: the token of a person with a list of several megabytes.
        locked: the token of a person, and the id of a task of theirs whose row is locked.
    """

    port: int
    seconds: float
    spent: tuple[str, ...]
    hoarder: str
    locked: tuple[str, int]


class Siege:
    """All attacks on one target, and what was seen of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.steps: Counter[str] = Counter()
        self.server_errors: list[str] = []
        self.statuses: Counter[str] = Counter()
        self._tokens = itertools.cycle(target.spent)
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Run every attack until the time is over."""
        until = time.monotonic() + self.target.seconds
        attacks = [
            self.pipeline_without_reading, self.send_endless_trailers, self.stay_silent,
            self.send_broken_request_lines, self.reset_in_a_pipeline, self.vary_conditions,
            self.send_unknown_arguments, self.count_under_aliases, self.reuse_a_variable_name,
            self.read_slowly, self.invent_tokens, self.poll_readiness, self.wait_for_a_locked_row,
        ]  # fmt: skip
        await asyncio.gather(*(self._repeat(attack, until) for attack in attacks))

    async def _repeat(self, attack: Callable[[], Awaitable[None]], until: float) -> None:
        while time.monotonic() < until:
            seconds = min(15, max(until - time.monotonic(), 0.1))
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(seconds):
                    await attack()
            self.steps[attack.__name__] += 1
            await asyncio.sleep(PAUSE)

    # --- Without an account -------------------------------------------------------------------

    async def pipeline_without_reading(self) -> None:
        """Send small requests as fast as the server takes them, and read no response."""
        async with self._connected() as (_, writer):
            for _ in range(200):
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                async with asyncio.timeout(2):
                    await writer.drain()

    async def send_endless_trailers(self) -> None:
        """After an early response, send a trailer that never ends."""
        async with self._connected() as (_, writer):
            writer.write(b"POST /none HTTP/1.1\r\nHost: localhost\r\n")
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ")
            for _ in range(500):
                writer.write(b"a" * 4096)
                async with asyncio.timeout(2):
                    await writer.drain()

    async def stay_silent(self) -> None:
        """Promise a body, and send one byte of it."""
        await self._many(self._promise_a_body, HELD)

    async def _promise_a_body(self) -> None:
        async with self._connected() as (reader, writer):
            writer.write(b"POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"x")
            await reader.read()

    async def send_broken_request_lines(self) -> None:
        """Requests that pass a careless proxy's rules, and requests of other versions."""
        for head in (
            b"GET /graphql%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /health%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /health HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        ):
            async with self._connected() as (reader, writer):
                writer.write(head)
                await self._read_status(reader)

    async def reset_in_a_pipeline(self) -> None:
        """Reset the connection while responses are being written to it."""
        async with self._connected() as (reader, writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            await reader.read(50)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def invent_tokens(self) -> None:
        """Tokens that look right and are nobody's."""
        await self._request("GET", "/tasks", secrets.token_urlsafe(24))

    async def poll_readiness(self) -> None:
        """Ask again and again whether the instance is ready."""
        await self._request("GET", "/health/ready", "")

    # --- With a session -----------------------------------------------------------------------

    async def vary_conditions(self) -> None:
        """Documents with more combinations of conditions than are worth keeping."""
        names = [f"c{n}" for n in range(6)]
        number = next(self._numbers)
        variables = {name: bool(number >> n & 1) for n, name in enumerate(names)}
        declared = ", ".join(f"${name}: Boolean!" for name in names)
        fields = " ".join(f"f{name}: userId @include(if: ${name})" for name in names)
        await self._graphql(f"query ({declared}) {{ viewer {{ userId {fields} }} }}", variables)

    async def send_unknown_arguments(self) -> None:
        """A document with hundreds of mistakes, another one each time."""
        number = next(self._numbers)
        unknown = " ".join(f"x{number + n}: 1" for n in range(300))
        await self._graphql(f'mutation {{ createTask(input: {{title: "a" {unknown}}}) {{ id }} }}')

    async def count_under_aliases(self) -> None:
        """The same count under ten names."""
        aliases = " ".join(f"c{n}: totalCount" for n in range(10))
        await self._graphql(f"{{ tasks(first: 1) {{ {aliases} }} }}", token=self.target.hoarder)

    async def reuse_a_variable_name(self) -> None:
        """One name for two variables of two operations."""
        document = (
            "query A($x: Boolean!) { viewer @skip(if: $x) { userId } }"
            " mutation B($x: [ID!]!) { deleteTasks(ids: $x) { notFound } }"
        )
        await self._graphql(document, {"x": ["1"]}, operation="B")

    async def read_slowly(self) -> None:
        """Ask for a long list many times, and read a few bytes of each response."""
        await self._many(self._read_a_list_slowly, HELD)

    async def _read_a_list_slowly(self) -> None:
        async with self._connected(buffer=4096) as (reader, writer):
            writer.write(_head("GET", "/tasks", self.target.hoarder) + b"\r\n")
            for _ in range(10):
                await reader.read(16)
                await asyncio.sleep(1)

    async def wait_for_a_locked_row(self) -> None:
        """Forty changes of one row that somebody else has locked."""
        token, task_id = self.target.locked
        body = b'{"completed": true}'
        await self._many(lambda: self._request("PATCH", f"/tasks/{task_id}", token, body), 40)

    async def _many(self, step: Callable[[], Coroutine[Any, Any, None]], number: int) -> None:
        """Make one step many times at once; a refused connection is no failure of the attack."""
        await asyncio.gather(*(step() for _ in range(number)), return_exceptions=True)

    # --- On the wire --------------------------------------------------------------------------

    async def _graphql(
        self, document: str, variables: object = None, operation: str | None = None, token: str = ""
    ) -> None:
        body = {"query": document, "variables": variables, "operationName": operation}
        token = token or next(self._tokens)
        await self._request("POST", "/graphql", token, json.dumps(body).encode())

    async def _request(self, method: str, path: str, token: str, body: bytes = b"") -> None:
        async with self._connected() as (reader, writer):
            head = _head(method, path, token) + b"Connection: close\r\n"
            if body:
                head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
            writer.write(head + b"\r\n" + body)
            status = await self._read_status(reader)
            rest = await reader.read(100_000)
            is_server_error = status >= b"500" or b"INTERNAL_ERROR" in rest
            # Two attackers make their own requests wait: for a lock, and for answers not read.
            if is_server_error and token not in (self.target.locked[0], self.target.hoarder):
                self.server_errors.append(f"{method} {path} {status!r}: {rest[-1000:]!r}")

    async def _read_status(self, reader: asyncio.StreamReader) -> bytes:
        line = await reader.readline()
        status = line.split(b" ")[1] if line.count(b" ") > 1 else b""
        self.statuses[status.decode("latin-1")] += 1
        return status

    @asynccontextmanager
    async def _connected(
        self, buffer: int = 0
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        connection = socket.socket()
        connection.setblocking(False)
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        place = ("127.0.0.1", self.target.port)
        await asyncio.get_running_loop().sock_connect(connection, place)
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**16)
        try:
            yield reader, writer
        finally:
            writer.close()


def _head(method: str, path: str, token: str) -> bytes:
    identity = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{identity}".encode()


def main() -> None:
    """Attack, and report."""
    siege = Siege(Target(**json.load(sys.stdin)))
    asyncio.run(siege.run())
    report = {
        "steps": siege.steps,
        "statuses": siege.statuses,
        "server_errors": siege.server_errors[:10],
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
