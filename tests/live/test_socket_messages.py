"""The subscription ``taskChanges`` by graphql-transport-ws: handshakes and messages."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from api.server import websocket
from graphql_schema import socket as graphql_socket
from tests.control import GIVE_UP
from tests.live.clients import SUBSCRIBE, OpenSocket
from tests.live.instances import Instance
from tests.people import Person


async def test_the_first_message_comes_at_once_and_then_each_change(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe()

    assert (await client.next())["changes"] == []
    task = await ada.create_task("water the plants")
    assert (await client.next())["changes"] == [
        {"id": str(task.id), "title": "water the plants", "version": 1}
    ]


async def test_it_continues_after_a_token(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    token = (await ada.list_tasks()).sync_token
    for number in range(150):
        await ada.create_task(f"task {number}")
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe(since=token)

    first, second = await client.next(), await client.next()

    assert [len(each["changes"]) for each in (first, second)] == [100, 50]
    assert (first["hasMore"], second["hasMore"]) == (True, False)


@pytest.mark.parametrize("name", ["authorization", "Authorization", "headers", "the handshake"])
async def test_a_token_is_taken_from_where_clients_put_it(
    instance: Instance, ada: Person, open_socket: OpenSocket, name: str
) -> None:
    value = f"Bearer {ada.token}"
    headers = {"Authorization": value} if name == "the handshake" else {}
    client = await open_socket(instance, additional_headers=headers)
    payload = {"headers": {"Authorization": value}} if name == "headers" else {name: value}

    await client.send({"type": "connection_init", "payload": payload})

    assert await client.read() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "payload", [None, {}, {"authorization": "Bearer x"}, {"authorization": 7}, {"headers": "x"}]
)
async def test_a_bad_token_closes_with_4403(
    instance: Instance, ada: Person, open_socket: OpenSocket, payload: Any
) -> None:
    client = await open_socket(instance)

    await client.send({"type": "connection_init", "payload": payload})

    assert await client.closed() == 4403


async def test_a_subscription_before_the_acknowledgement_closes_with_4401(
    instance: Instance, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)

    await client.subscribe()

    assert await client.closed() == 4401


@pytest.mark.parametrize("subprotocols", [None, ["graphql-ws"]])
async def test_another_subprotocol_closes_with_4406(
    instance: Instance, open_socket: OpenSocket, subprotocols: Any
) -> None:
    client = await open_socket(instance, subprotocols=subprotocols)

    assert await client.closed() == 4406


async def test_a_socket_without_initialisation_closes_with_4408(
    instance: Instance, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql_socket, "INIT_SECONDS", 0.1)

    assert await (await open_socket(instance)).closed() == 4408


async def test_an_id_in_use_closes_with_4409(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe()

    await client.subscribe()

    assert await client.closed() == 4409


async def test_a_second_initialisation_closes_with_4429(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)

    await client.send({"type": "connection_init"})

    assert await client.closed() == 4429


@pytest.mark.parametrize(
    "frame",
    [
        *("1", "null", "[]", "{", "", '"x"', "{}", b"{}", '{"type": "start"}', '{"type": 1}'),
        *('{"type": "subscribe"}', '{"type": "subscribe", "id": 1, "payload": {}}'),
        *('{"type": "complete"}', '{"type": "ping", "payload": 1}', "[" * 60_000),
    ],
)
async def test_an_invalid_message_closes_with_4400(
    instance: Instance, open_socket: OpenSocket, frame: Any
) -> None:
    client = await open_socket(instance)

    await client.connection.send(frame)

    assert await client.closed() == 4400


async def test_text_that_is_not_utf_8_closes_with_1007(
    instance: Instance, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)

    await client.connection.send(b"\xff", text=True)

    assert await client.closed() == 1007


async def test_an_unmasked_frame_closes_with_1002(
    instance: Instance, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    client = await open_socket(instance)

    client.connection.transport.write(b"\x81" + struct.pack("B", 2) + b"{}")

    assert await client.closed() == 1002


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("subscription { taskChanges { token ", {}, "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ viewer { id } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("mutation { deleteTask(id: 1) { id } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        (7, {}, "VALIDATION_ERROR"),
        (SUBSCRIBE, {"since": 7}, "GRAPHQL_VALIDATION_FAILED"),
        (SUBSCRIBE, {"since": "x"}, "VALIDATION_ERROR"),
        (SUBSCRIBE, {"since": "A" * 43}, "SYNC_TOKEN_EXPIRED"),
    ],
)
async def test_what_is_wrong_with_a_document_ends_its_subscription_alone(
    instance: Instance,
    ada: Person,
    open_socket: OpenSocket,
    query: Any,
    variables: dict[str, Any],
    code: str,
) -> None:
    client = await open_socket(instance)
    await client.init(ada)

    await client.subscribe("1", query, **variables)

    message = await client.read()
    assert (message["id"], message["type"]) == ("1", "error")
    assert message["payload"][0]["extensions"]["code"] == code
    await client.subscribe("1")
    assert (await client.next())["changes"] == []


async def test_a_subscription_that_the_client_completes_sends_nothing_more(
    instance: Instance, ada: Person, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)
    await client.init(ada)
    await client.subscribe("1")
    await client.next("1")

    await client.send({"id": "1", "type": "complete"})
    await client.subscribe("2")
    await client.next("2")
    await ada.create_task("water the plants")

    assert (await client.next("2"))["changes"]
    assert len(instance.hub) == 1


async def test_a_ping_is_answered_with_its_payload(
    instance: Instance, open_socket: OpenSocket
) -> None:
    client = await open_socket(instance)

    await client.send({"type": "ping", "payload": {"a": 1}})
    await client.send({"type": "pong"})

    assert await client.read() == {"type": "pong", "payload": {"a": 1}}


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://elsewhere.example", 403), ("null", 403), ("http://localhost:5173", 101)],
)
async def test_a_page_of_another_origin_is_refused_unless_it_is_listed(
    instance: Instance, open_socket: OpenSocket, origin: str, status: int
) -> None:
    if status == 101:
        await open_socket(instance, origin=origin)
        return
    with pytest.raises(InvalidStatus) as refused:
        await open_socket(instance, origin=origin)

    assert refused.value.response.status_code == status
    [error] = json.loads(refused.value.response.body)["errors"]
    assert error["extensions"]["code"] == "AUTHORIZATION_ERROR"


async def test_another_host_and_another_path_are_refused(
    instance: Instance, open_socket: OpenSocket
) -> None:
    port = int(instance.url.rpartition(":")[2])
    with pytest.raises(InvalidStatus) as misdirected:
        await connect(f"ws://rebound.example:{port}/graphql", host="127.0.0.1", port=port)
    with pytest.raises(InvalidStatus) as missing:
        await open_socket(instance, path="/tasks")

    statuses = [each.value.response.status_code for each in (misdirected, missing)]
    assert statuses == [421, 404]


async def test_what_arrives_before_the_response_to_a_handshake_is_answered_after_it(
    instance: Instance,
) -> None:
    address = instance.url.removeprefix("http://")
    handshake = [
        "GET /graphql HTTP/1.1",
        f"Host: {address}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: graphql-transport-ws",
    ]
    ping = Frame(Opcode.PING, b"one").serialize(mask=True)
    message = Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True)
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        writer.write("\r\n".join([*handshake, "", ""]).encode() + ping + message)

        async with asyncio.timeout(GIVE_UP):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            for answer in (Frame(Opcode.PONG, b"one"), Frame(Opcode.TEXT, b'{"type":"pong"}')):
                expected = answer.serialize(mask=False)
                assert await reader.readexactly(len(expected)) == expected
            # It is read on.
            writer.write(message)
            assert await reader.readexactly(len(expected)) == expected
    finally:
        writer.close()
        await writer.wait_closed()
