"""How WebSockets end, and with which code."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress

import asyncpg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.live import hub
from api.server import websocket
from api.server.websocket import WebSocketProtocol
from api.telemetry.request_log import RequestLog
from graphql_schema import socket as graphql_socket
from tests.control import GIVE_UP
from tests.live.clients import OpenSocket, WebSocket
from tests.live.instances import Instance, Serve, person_of, served_until_the_database_is_away
from tests.people import HASH_SECRET, Person, sign_in
from tests.servers import served
from tests.surfaces import RestSurface
from tests.trips import TripCounter


@pytest.mark.parametrize("subscribes", [True, False])
async def test_a_sign_out_ends_the_socket(
    instance: Instance,
    ada: Person,
    sql: asyncpg.Connection,
    open_socket: OpenSocket,
    subscribes: bool,
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    if subscribes:
        await client.subscribe()
        await client.next()

    await sql.execute("UPDATE user_sessions SET revoked = true")

    assert await client.closed() == 4403
    assert len(instance.hub) == 0


@pytest.mark.parametrize("is_initialised", [True, False])
async def test_an_instance_that_leaves_closes_with_1012(
    instance: Instance, ada: Person, open_socket: OpenSocket, is_initialised: bool
) -> None:
    file = io.BytesIO()
    instance.app._log = RequestLog(instance.app.state.twofold.settings, file)
    client = await open_socket(instance)
    if is_initialised:
        await client.init(ada)
        await client.subscribe()
        await client.next()
        await asyncio.sleep(0.3)  # Until it only waits.

    instance.hub.cut()

    assert await client.closed() == 1012
    async with asyncio.timeout(GIVE_UP):
        while not file.getvalue():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    line = json.loads(file.getvalue())
    assert (line["level"], line.get("exception")) == ("info", None)


async def test_a_socket_that_is_old_closes_with_1012(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    vars(instance.app.state.twofold.settings)["live_max_seconds"] = 1
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe()
    await client.next()

    assert await client.closed() == 1012


@pytest.mark.parametrize("is_hinted", [True, False])
async def test_a_socket_closes_with_1013_when_the_database_is_away_for_long(
    serve: Serve,
    database_url: str,
    sql: asyncpg.Connection,
    open_socket: OpenSocket,
    monkeypatch: pytest.MonkeyPatch,
    is_hinted: bool,
) -> None:
    async with served_until_the_database_is_away(serve, database_url, monkeypatch) as instance:
        ada = await person_of(instance, sql)
        client = await open_socket(instance)
        await client.init(ada)
        await client.subscribe()
        await client.next()
        await asyncio.sleep(0.3)  # Until the stream is idle, so that only the check can cut it.

    if is_hinted:
        instance.hub.hint("ada")

    assert await client.closed() == 1013
    assert len(instance.hub) == 0


async def test_a_socket_closes_with_1013_when_nobody_can_find_its_session(
    serve: Serve, database_url: str, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_until_the_database_is_away(serve, database_url, monkeypatch) as instance:
        client = await open_socket(instance)

    payload = {"authorization": f"Bearer {'x' * 43}"}
    await client.send({"type": "connection_init", "payload": payload})

    assert await client.closed() == 1013


async def test_an_unexpected_failure_of_a_socket_closes_with_4500(
    instance: Instance, ada: Person, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql_socket, "viewer_payer", None)
    client = await open_socket(instance)

    payload = {"authorization": f"Bearer {ada.token}"}
    await client.send({"type": "connection_init", "payload": payload})

    assert await client.closed() == 4500
    assert client.connection.close_reason == "Internal server error"


async def test_an_unexpected_failure_of_a_subscription_ends_it_alone(
    instance: Instance, ada: Person, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe("1")
    await client.next("1")

    with monkeypatch.context() as patch:
        patch.setattr(hub.feeds, "changes", None)
        await ada.create_task("water the plants")
        message = await client.read()

    assert (message["id"], message["type"]) == ("1", "error")
    [error] = message["payload"]
    assert error["extensions"]["code"] == "INTERNAL_ERROR"
    await client.subscribe("1")
    assert (await client.next("1"))["changes"] == []


async def test_a_client_that_answers_no_ping_is_closed_with_1013(
    instance: Instance, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PING_SECONDS", 0.1)
    monkeypatch.setattr(WebSocketProtocol, "unread_seconds", 0.3)
    client = await open_socket(instance)

    # It would answer as soon as it reads.
    client.connection.transport.pause_reading()
    async with asyncio.timeout(GIVE_UP):
        while len(instance.hub.sockets):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    client.connection.transport.resume_reading()

    assert await client.closed() == 1013


async def test_a_client_that_leaves_is_forgotten(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe()
    await client.next()

    await client.connection.close()

    async with asyncio.timeout(GIVE_UP):
        while len(instance.hub) or len(instance.hub.sockets):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_nothing_is_forgotten(
    instance: Instance, ada: Person, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebSocketProtocol, "unread_seconds", 0.5)
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.2)
    client = await open_socket(instance)
    # Otherwise it would be closed because it did not say whose it is.
    await client.init(ada)
    client.connection.transport.pause_reading()
    ping = json.dumps({"type": "ping", "payload": {"x": "y" * 60_000}})

    async def send() -> None:
        with suppress(ConnectionClosed):
            while True:
                await client.connection.send(ping)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(GIVE_UP):
            while len(instance.hub.sockets):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        sending.cancel()
        client.connection.transport.abort()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_server_that_stops_closes_its_sockets_with_1012(
    database_url: str, sql: asyncpg.Connection, workers: str
) -> None:
    async with served(database_url, WEB_CONCURRENCY=workers) as (http, process):
        ada = await sign_in(sql, RestSurface(http), "ada", HASH_SECRET)
        url = f"{http.base_url}/graphql".replace("http:", "ws:")
        async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
            client = WebSocket(connection)
            await client.init(ada)
            await client.subscribe()
            await client.next()

            process.terminate()

            assert await client.closed() == 1012
            async with asyncio.timeout(GIVE_UP):
                assert await process.wait() == 0


async def test_the_line_of_a_socket_says_why_it_was_closed_while_it_was_initialised(
    serve: Serve,
    sql: asyncpg.Connection,
    database_url: str,
    open_socket: OpenSocket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    file = io.BytesIO()
    async with TripCounter.before(database_url, delay=0.1) as far:
        instance = await serve(database_url=far.url)
        ada = await person_of(instance, sql)
        instance.app._log = RequestLog(instance.app.state.twofold.settings, file)
        client = await open_socket(instance)

        payload = {"authorization": f"Bearer {ada.token}"}
        trips = far.count
        await client.send({"type": "connection_init", "payload": payload})
        async with asyncio.timeout(GIVE_UP):
            while far.count == trips:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.001)
        with suppress(ConnectionClosed):
            await client.connection.send("x" * 100_000)

        assert await client.closed() == 1009
        async with asyncio.timeout(GIVE_UP):
            while not file.getvalue():  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
    assert json.loads(file.getvalue())["close_code"] == 1009


async def test_the_end_of_a_socket_is_one_line_in_the_log(
    instance: Instance, ada: Person, open_socket: OpenSocket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = io.BytesIO()
    instance.app._log = RequestLog(instance.app.state.twofold.settings, file)
    client = await open_socket(instance, path="/graphql?secret=1")
    await client.init(ada)
    await client.subscribe()
    await client.next()

    await client.connection.close(1000)
    async with asyncio.timeout(GIVE_UP):
        while not file.getvalue():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    [line] = map(json.loads, file.getvalue().splitlines())
    assert (line["method"], line["route"], line["status"]) == ("GET", "/graphql", 101)
    assert (line["events"], line["close_code"]) == (1, 1000)
    # The session, and again with the changes up to now.
    assert line["database_trips"] >= 2
    assert "secret" not in caplog.text + file.getvalue().decode()
