"""Clients that follow a person's changes by either protocol, and keep a replica of the tasks.

They speak the protocols themselves, because a thousand of them have to cost little.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

from persistence.sync_tokens import decode_token

PAUSE: Final = 0.2
"""Seconds until a client connects again."""

SUBSCRIPTION: Final = """
subscription ($since: String) { taskChanges(since: $since) {
    changes { id title description version updatedAt deletedAt } token hasMore
} }"""

_TEXT, _PONG = 1, 10


class Cut(Exception):
    """The connection has ended, or was refused: connect again."""


class SignedOut(Exception):
    """The session has ended."""


class Expired(Exception):
    """The token is not known any more: read all tasks anew."""


def request_of_events(bearer: str, since: str | None = None) -> bytes:
    """What opens ``GET /tasks/events``."""
    head = ["GET /tasks/events HTTP/1.1", "host: localhost", f"authorization: Bearer {bearer}"]
    head += [f"last-event-id: {since}"] if since else []
    return "\r\n".join([*head, "", ""]).encode()


def request_of_messages(bearer: str, since: str | None = None) -> bytes:
    """What opens a WebSocket and subscribes to ``taskChanges``."""
    payload = {"query": SUBSCRIPTION, "variables": {"since": since}}
    return (
        _HANDSHAKE
        + _message(type="connection_init", payload={"authorization": f"Bearer {bearer}"})
        + _message(type="subscribe", id="1", payload=payload)
    )


_HANDSHAKE: Final = (
    b"GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-protocol: graphql-transport-ws\r\n\r\n"
)


def _message(**members: Any) -> bytes:
    return _frame(_TEXT, json.dumps(members).encode())


def _frame(opcode: int, payload: bytes) -> bytes:
    # Clients have to mask; with zeros the payload stays as it is.
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([128 | opcode]) + length + bytes(4) + payload


OPENINGS: Final = {"SSE": request_of_events, "WebSocket": request_of_messages}
"""What a client of each protocol sends at first."""


async def _connect(port: int, opening: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send it; return when the head of the response says that a stream begins."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        raise Cut(str(error)) from error
    try:
        writer.write(opening)
        status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
    except (OSError, EOFError) as error:
        writer.close()
        raise Cut(str(error)) from error
    if status in (101, 200):
        return reader, writer
    writer.close()
    raise {401: SignedOut, 410: Expired}.get(status, Cut)(status)


async def events(port: int, bearer: str, since: str | None) -> AsyncIterator[dict[str, Any]]:
    """What ``GET /tasks/events`` sends: changes and their token.

    Raises:
        Cut, SignedOut, Expired: it has ended, or cannot begin.
    """
    reader, writer = await _connect(port, request_of_events(bearer, since))
    is_end = False
    try:
        async for line in _lines(reader):
            if line == b"event: end":
                is_end = True
            elif line.startswith(b"data: "):
                data = json.loads(line[6:])
                if is_end:
                    raise Expired if data["status"] == 410 else SignedOut
                yield data
    except (OSError, EOFError) as error:
        raise Cut(str(error)) from error
    finally:
        writer.close()
    raise Cut("the end of the stream")


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a body in chunks, until its end or that of the connection."""
    rest = b""
    while size := int(await reader.readline() or b"0", 16):
        chunk = await reader.readexactly(size + 2)
        *lines, rest = (rest + chunk[:size]).split(b"\n")
        for line in lines:
            yield line


async def messages(port: int, bearer: str, since: str | None) -> AsyncIterator[dict[str, Any]]:
    """What ``taskChanges`` sends over a WebSocket, in the form of ``events``.

    Raises:
        Cut, SignedOut, Expired: it has ended, or cannot begin.
    """
    reader, writer = await _connect(port, request_of_messages(bearer, since))
    try:
        while True:
            message = await _received(reader, writer)
            if message["type"] == "next":
                data = message["payload"]["data"]["taskChanges"]
                changes = [_as_rest(task) for task in data["changes"]]
                yield {"token": data["token"], "changes": changes}
            elif message["type"] == "error":
                code = message["payload"][0]["extensions"]["code"]
                raise Expired if code == "SYNC_TOKEN_EXPIRED" else Cut(code)
    except (OSError, EOFError) as error:
        raise Cut(str(error)) from error
    finally:
        writer.close()


def _as_rest(task: dict[str, Any]) -> dict[str, Any]:
    times = {"updated_at": task["updatedAt"], "deleted_at": task["deletedAt"]}
    return {**task, "id": int(task["id"]), **times}


async def _received(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
    """The next message; pings before it are answered."""
    while True:
        first, length = await reader.readexactly(2)
        if length > 125:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
        payload = await reader.readexactly(length)
        match first & 15:
            case 1:
                message: dict[str, Any] = json.loads(payload)
                return message
            case 8:
                code = int.from_bytes(payload[:2])
                raise SignedOut if code == 4403 else Cut(code)
            case 9:
                writer.write(_frame(_PONG, payload))


PROTOCOLS: Final = {"SSE": events, "WebSocket": messages}


class Follower:
    """A client with a replica. Whenever its stream ends it connects again, with its last token.

    Args:
        protocol: a key of ``PROTOCOLS``.
        bearer: its token of a session.
        ports: of the instances, of which it takes any.
        token: where it begins; ``None`` for now.
        on_change: is called with each task that it gets.

    Attributes:
        tasks: the replica: title and version by id.
        versions: of every task that it ever got, by id.
        attempts: how often it tried to open a stream.
        events: how many it got.
        faults: what was not as it has to be.
        signed_out_at: the monotonic time at which it was told so.
    """

    def __init__(
        self,
        protocol: str,
        bearer: str,
        ports: list[int],
        token: str | None = None,
        on_change: Callable[[dict[str, Any]], None] = lambda task: None,
    ) -> None:
        self.protocol, self.bearer = protocol, bearer
        self.tasks: dict[int, tuple[str, int]] = {}
        self.versions: dict[int, int] = {}
        self.attempts = self.events = 0
        self.faults: list[str] = []
        self.signed_out_at: float | None = None
        self._ports, self._on_change = ports, on_change
        self._token = token

    async def run(self) -> None:
        """Follow until the session has ended."""
        while self.signed_out_at is None:
            stream = PROTOCOLS[self.protocol](random.choice(self._ports), self.bearer, self._token)
            self.attempts += 1
            try:
                async for event in stream:
                    self._apply(event)
            except Cut:
                await asyncio.sleep(PAUSE)
            except SignedOut:
                self.signed_out_at = time.monotonic()
            except Expired:
                self.faults.append("the token has expired")
                return
            finally:
                with suppress(Cut):
                    await stream.aclose()

    def _apply(self, event: dict[str, Any]) -> None:
        now = decode_token(event["token"])
        before = decode_token(self._token) if self._token else now
        if (now.seq, now.id) < (before.seq, before.id) or now.history != before.history:
            self.faults.append(f"from {before} back to {now}")
        self._token = event["token"]
        self.events += 1
        for task in event["changes"]:
            task_id, version = task["id"], task["version"]
            if version < self.versions.get(task_id, 0):
                self.faults.append(f"task {task_id} came with version {version} too late")
            self.versions[task_id] = version
            self.tasks[task_id] = (task["title"], version)
            if task.get("deleted_at"):
                del self.tasks[task_id]
            self._on_change(task)
