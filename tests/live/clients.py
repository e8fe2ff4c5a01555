"""Clients of the streams: of server-sent events, of graphql-sse, and of WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.control import GIVE_UP
from tests.people import Person

SUBSCRIBE = """
subscription ($since: String) {
  taskChanges(since: $since) { changes { id title version } token hasMore }
}"""


class Events:
    """An open stream, read event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.aiter_lines()
        self.tasks: dict[int, Any] = {}
        self.token = ""

    async def next(self) -> dict[str, str]:
        """The fields of the next event."""
        event: dict[str, str] = {}
        async with asyncio.timeout(GIVE_UP):
            async for line in self.lines:
                if not line and event:
                    return event
                name, _, value = line.partition(": ")
                if line and name != ":":
                    event[name] = value
        raise EOFError

    async def apply(self) -> list[dict[str, Any]]:
        """Read an event of changes and keep its tasks; return them."""
        event = await self.next()
        data = json.loads(event["data"])
        assert data["token"] == event["id"]
        self.token = event["id"]
        self.tasks |= {task["id"]: task for task in data["changes"]}
        return data["changes"]


class Messages(Events):
    """An open subscription."""

    async def read(self) -> Any:
        """The data of the next message."""
        message = await self.next()
        assert message["event"] == "next"
        result = json.loads(message["data"])
        assert "errors" not in result
        return result["data"]["taskChanges"]

    async def errors(self) -> list[dict[str, Any]]:
        """The errors of the last message."""
        message = await self.next()
        assert message["event"] == "next"
        assert (await self.next())["event"] == "complete"
        with pytest.raises(EOFError):
            await self.next()
        return json.loads(message["data"])["errors"]


class WebSocket:
    """An open socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        """Send a message."""
        await self.connection.send(json.dumps(message))

    async def read(self) -> Any:
        """The next message."""
        async with asyncio.timeout(GIVE_UP):
            return json.loads(await self.connection.recv())

    async def init(self, person: Person) -> None:
        """Say whose socket it is."""
        payload = {"authorization": f"Bearer {person.token}"}
        await self.send({"type": "connection_init", "payload": payload})
        assert await self.read() == {"type": "connection_ack"}

    async def subscribe(self, name: str = "1", query: str = SUBSCRIBE, **variables: Any) -> None:
        """Send a subscription."""
        payload = {"query": query, "variables": variables}
        await self.send({"id": name, "type": "subscribe", "payload": payload})

    async def next(self, name: str = "1") -> Any:
        """The next changes of a subscription."""
        message = await self.read()
        assert (message["id"], message["type"]) == (name, "next"), message
        return message["payload"]["data"]["taskChanges"]

    async def closed(self) -> int:
        """The code with which the server closes the socket, once that happened."""
        async with asyncio.timeout(GIVE_UP):
            await self.connection.wait_closed()
        close = self.connection.protocol.close_rcvd
        assert close is not None, "no close frame"
        return close.code


Listen = Callable[..., Awaitable[Events]]

Subscribe = Callable[..., Awaitable[Messages]]

OpenSocket = Callable[..., Awaitable[WebSocket]]
