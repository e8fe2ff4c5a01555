"""What WebSockets may cost: their number, their messages, their budget."""

from __future__ import annotations

from contextlib import suppress

import asyncpg
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame

from api.live import hub, sockets
from api.server import websocket
from api.server.websocket import WebSocketProtocol
from tests.live.clients import OpenSocket
from tests.live.instances import Instance, Serve, person_of
from tests.people import Person


@pytest.mark.parametrize("pieces", [1, 30])
async def test_a_message_that_is_too_large_closes_with_1009(
    instance: Instance, open_socket: OpenSocket, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    client = await open_socket(instance)

    with suppress(ConnectionClosed):  # It may be seen while it is still sending.
        await client.connection.send(["x" * (3_000_000 // pieces)] * pieces)

    assert await client.closed() == 1009


async def test_too_many_messages_at_once_close_with_1013(
    instance: Instance, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    masked = b"\x81\x82\0\0\0\0{}"

    client.connection.transport.write(masked * (2 * websocket.MAX_WAITING))

    assert await client.closed() in (1013, 4400)


async def test_the_subscriptions_of_a_socket_are_bounded(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    for number in range(hub.MAX_OF_A_PERSON):
        await client.subscribe(str(number))
        await client.next(str(number))

    await client.subscribe("one more")

    [error] = (await client.read())["payload"]
    assert error["extensions"]["code"] == "RATE_LIMIT_EXCEEDED"


async def test_the_sockets_of_a_person_are_bounded(
    instance: Instance, ada: Person, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_OF_A_PERSON", 1)
    await (await open_socket(instance)).init(ada)

    client = await open_socket(instance)
    await client.send(
        {"type": "connection_init", "payload": {"authorization": f"Bearer {ada.token}"}}
    )

    assert await client.closed() == 1013


@pytest.mark.parametrize("bound", ["MAX_SOCKETS", "MAX_OF_AN_ADDRESS"])
async def test_a_socket_too_many_is_refused_before_it_is_accepted(
    instance: Instance, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(sockets, bound, 0)

    with pytest.raises(InvalidStatus) as refused:
        await open_socket(instance)

    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"]


async def test_the_empty_parts_of_a_message_take_no_memory(
    instance: Instance, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await open_socket(instance)
    kept = []
    handle_cont = WebSocketProtocol.handle_cont

    def count(protocol: WebSocketProtocol, event: Frame) -> None:
        handle_cont(protocol, event)
        kept.append(len(protocol.frames))

    monkeypatch.setattr(WebSocketProtocol, "handle_cont", count)

    await client.connection.send(['{"type":', *[""] * 1000, '"ping"}'])

    assert await client.read() == {"type": "pong"}
    assert len(kept) > 1000
    assert max(kept) <= websocket.MAX_PARTS


async def test_each_subscription_costs_one_read_and_so_does_the_initialisation(
    serve: Serve, sql: asyncpg.Connection, open_socket: OpenSocket
) -> None:
    instance = await serve(rate_limit_enabled=True, rate_limit_read="2/minute")
    ada = await person_of(instance, sql)
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe("1")
    await client.next("1")

    await client.subscribe("2")

    [error] = (await client.read())["payload"]
    assert error["extensions"]["code"] == "RATE_LIMIT_EXCEEDED"
    another = await open_socket(instance)
    payload = {"authorization": f"Bearer {ada.token}"}
    await another.send({"type": "connection_init", "payload": payload})
    assert await another.closed() == 1013
