"""Instances, and clients of their streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect

from api.app import create_app
from api.server.uvicorn_protocol import Protocol
from api.server.websocket import WebSocketProtocol
from tests.conftest import settings_of_tests
from tests.live.clients import SUBSCRIBE, Events, Listen, Messages, OpenSocket, Subscribe, WebSocket
from tests.live.instances import Instance, Serve, person_of
from tests.people import Person


@pytest.fixture
async def serve(database_url: str) -> AsyncIterator[Serve]:
    """Starts instances in this process, on real sockets."""
    async with AsyncExitStack() as stack:

        async def serve(**settings: Any) -> Instance:
            settings = {"database_url": database_url, **settings}
            app = create_app(settings_of_tests(**settings))
            config = uvicorn.Config(
                app, port=0, http=Protocol, ws=WebSocketProtocol, lifespan="on", log_config=None
            )
            server = uvicorn.Server(config)
            config.load()
            server.lifespan = config.lifespan_class(config)
            await server.startup()

            async def stop() -> None:
                app.state.twofold.live.cut()
                # uvicorn looks every 0.1 s whether its connections are closed.
                for _ in range(20):
                    if server.server_state.connections:
                        await asyncio.sleep(0.002)
                await server.shutdown()

            stack.push_async_callback(stop)
            [listener] = server.servers[0].sockets
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
            return Instance(app, url, client)

        yield serve


@pytest.fixture
async def instance(serve: Serve) -> Instance:
    return await serve(live_check_seconds=1)


@pytest.fixture
async def ada(instance: Instance, sql: asyncpg.Connection) -> Person:
    return await person_of(instance, sql)


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Opens streams."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=None))

        async def listen(
            instance: Instance, person: Person, query: str = "", **headers: str
        ) -> Events:
            headers["Authorization"] = f"Bearer {person.token}"
            url = f"{instance.url}/tasks/events{query}"
            response = await stack.enter_async_context(client.stream("GET", url, headers=headers))
            return Events(response)

        yield listen


@pytest.fixture
async def subscribe() -> AsyncIterator[Subscribe]:
    """Opens subscriptions."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=None))

        async def subscribe(
            instance: Instance, person: Person, query: str = SUBSCRIBE, **variables: Any
        ) -> Messages:
            headers = {"Authorization": f"Bearer {person.token}", "Accept": "text/event-stream"}
            body = {"query": query, "variables": variables}
            request = client.stream("POST", f"{instance.url}/graphql", json=body, headers=headers)
            return Messages(await stack.enter_async_context(request))

        yield subscribe


@pytest.fixture
async def open_socket() -> AsyncIterator[OpenSocket]:
    """Opens sockets."""
    async with AsyncExitStack() as stack:

        async def open_socket(
            instance: Instance, path: str = "/graphql", **options: Any
        ) -> WebSocket:
            url = instance.url.replace("http:", "ws:") + path
            options = {"subprotocols": ["graphql-transport-ws"], **options}
            return WebSocket(await stack.enter_async_context(connect(url, **options)))

        yield open_socket
