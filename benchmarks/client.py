"""A client that costs little: it sends prepared bytes, and reads only what HTTP needs."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Final

from benchmarks.service import TOKEN, Service
from tests.surfaces import Request, authorization

KEY: Final = b"a-new-key-for-each-request-----------"
"""In the place of an idempotency key: each request gets a new one."""


def encode(request: Request, token: str = TOKEN) -> bytes:
    """The bytes of a request over HTTP/1.1, as the user with this token."""
    headers = {"host": "localhost", **authorization(token), **request.headers}
    if request.body:
        headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (request.body or b"")


async def drive(
    port: int, messages: Sequence[bytes], times: int, connections: int = 4
) -> list[float]:
    """Send requests in turn, so many in all, on a few connections.

    Returns:
        The seconds that each took.

    Raises:
        RuntimeError: a response is not a 2xx, or has GraphQL errors.
    """
    remaining = (
        each.replace(KEY, secrets.token_bytes(18).hex().encode())
        for each in islice(cycle(messages), times)
    )
    seconds: list[float] = []
    await asyncio.gather(*(_send(port, remaining, seconds) for _ in range(connections)))
    return seconds


async def _send(port: int, messages: Iterator[bytes], seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    for message in messages:
        began = time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(head.decode())
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        seconds.append(time.perf_counter() - began)
        if body.startswith(b'{"errors"'):
            raise RuntimeError(body.decode())
    writer.close()


def cpu_per_request(service: Service, message: bytes, times: int) -> float:
    """Microseconds of server CPU for one request: the best of three rounds of ``times`` each."""
    asyncio.run(drive(service.port, [message], max(times // 5, 8)))
    rounds = []
    for _ in range(3):
        before = service.cpu()
        asyncio.run(drive(service.port, [message], times))
        rounds.append((service.cpu() - before) / times * 1e6)
    return min(rounds)
