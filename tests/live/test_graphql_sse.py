"""The subscription ``taskChanges`` by graphql-sse, in its mode of distinct connections."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import asyncpg
import httpx
import pytest

from api.live import hub
from api.telemetry.request_log import RequestLog
from tests.control import GIVE_UP
from tests.live.clients import SUBSCRIBE, Subscribe
from tests.live.instances import Instance
from tests.people import Person


async def test_the_first_message_comes_at_once_and_then_each_change(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    messages = await subscribe(instance, ada)

    assert messages.response.headers["content-type"] == "text/event-stream"
    assert (await messages.read())["changes"] == []
    task = await ada.create_task("water the plants")
    assert (await messages.read())["changes"] == [
        {"id": str(task.id), "title": "water the plants", "version": 1}
    ]
    await ada.change_task(task.id, completed=True)
    assert [each["version"] for each in (await messages.read())["changes"]] == [2]


async def test_the_line_of_a_stream_in_the_log_has_the_name_of_its_operation(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    file = io.BytesIO()
    instance.app._log = RequestLog(instance.app.state.twofold.settings, file)
    messages = await subscribe(instance, ada, "subscription Mine { taskChanges { token } }")
    await messages.read()
    await messages.response.aclose()

    async with asyncio.timeout(GIVE_UP):
        while not file.getvalue():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    line = json.loads(file.getvalue())
    assert (line["operation"], line["events"]) == ("Mine", 1)


async def test_it_continues_after_a_token(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    token = (await ada.list_tasks()).sync_token
    for number in range(150):
        await ada.create_task(f"task {number}")

    messages = await subscribe(instance, ada, since=token)
    first, second = await messages.read(), await messages.read()

    assert [len(each["changes"]) for each in (first, second)] == [100, 50]
    assert (first["hasMore"], second["hasMore"]) == (True, False)
    assert second["token"] == (await ada.list_tasks()).sync_token


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("subscription { taskChanges { token ", {}, "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
        (SUBSCRIBE, {"since": 7}, "GRAPHQL_VALIDATION_FAILED"),
        (SUBSCRIBE, {"since": "x"}, "VALIDATION_ERROR"),
        (SUBSCRIBE, {"since": "A" * 43}, "SYNC_TOKEN_EXPIRED"),
    ],
)
async def test_what_is_wrong_with_a_document_is_its_only_message(
    instance: Instance,
    ada: Person,
    subscribe: Subscribe,
    query: str,
    variables: dict[str, Any],
    code: str,
) -> None:
    messages = await subscribe(instance, ada, query, **variables)

    assert messages.response.status_code == 200
    [error] = await messages.errors()
    assert error["extensions"]["code"] == code


async def test_a_stranger_and_a_query_are_refused_with_a_status(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    stranger = Person("stranger", "x", ada.surface)

    assert (await subscribe(instance, stranger)).response.status_code == 401
    assert (await subscribe(instance, ada, "{ viewer { id } }")).response.status_code == 406


async def test_a_subscription_without_the_media_type_is_refused(
    instance: Instance, ada: Person
) -> None:
    response = await instance.client.post(
        "/graphql",
        json={"query": SUBSCRIBE},
        headers={"Authorization": f"Bearer {ada.token}", "Accept": "application/json"},
    )

    assert response.json()["errors"][0]["message"] == "Subscriptions are not supported here."


async def test_a_session_that_ends_is_the_last_message(
    instance: Instance, sql: asyncpg.Connection, ada: Person, subscribe: Subscribe
) -> None:
    messages = await subscribe(instance, ada)
    await messages.read()

    await sql.execute("UPDATE user_sessions SET revoked = true")

    [error] = await messages.errors()
    assert error["extensions"]["code"] == "AUTHENTICATION_ERROR"


async def test_both_protocols_share_the_streams_of_a_person(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    open_ones = [await subscribe(instance, ada) for _ in range(hub.MAX_OF_A_PERSON)]
    for messages in open_ones:
        await messages.read()

    assert (await subscribe(instance, ada)).response.status_code == 429


async def test_an_instance_that_leaves_does_not_complete_it(
    instance: Instance, ada: Person, subscribe: Subscribe
) -> None:
    messages = await subscribe(instance, ada)
    await messages.read()

    instance.hub.cut()

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await messages.next()
