"""``GET /tasks/events``: changes as they happen, over real connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest

from api.http import event_stream
from api.live import hub
from tests.control import GIVE_UP
from tests.live.clients import Listen
from tests.live.instances import Instance, Serve, person_of, served_until_the_database_is_away
from tests.log_lines import records_of
from tests.people import Person


async def test_the_first_event_comes_at_once_and_then_each_change(
    instance: Instance, ada: Person, listen: Listen
) -> None:
    await ada.create_task("before")
    events = await listen(instance, ada)

    assert events.response.headers["content-type"] == "text/event-stream"
    assert events.response.headers["x-accel-buffering"] == "no"
    first = await events.next()
    assert 1000 <= int(first["retry"]) <= 5000
    assert json.loads(first["data"])["changes"] == []
    task = await ada.create_task("after")
    assert [each["id"] for each in await events.apply()] == [task.id]
    await ada.change_task(task.id, completed=True)
    assert [each["version"] for each in await events.apply()] == [2]


async def test_a_stream_in_http_1_0_has_no_chunks(instance: Instance, ada: Person) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(instance.url).port)
    writer.write(
        b"GET /tasks/events HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
        % ada.token.encode()
    )
    async with asyncio.timeout(GIVE_UP):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        first = await reader.readuntil(b"\n\n")
        await ada.create_task("water the plants")
        second = await reader.readuntil(b"\n\n")
        instance.hub.cut()
        rest = await reader.read()
    writer.close()

    assert b"\r\nconnection: close\r\n" in head
    assert b"transfer-encoding" not in head
    assert first.startswith(b"retry: ")
    assert b"water the plants" in second
    assert b"0\r\n" not in rest


async def test_a_deletion_is_sent_with_its_time_in_the_contracts_form(
    instance: Instance, sql: asyncpg.Connection, ada: Person, listen: Listen
) -> None:
    task = await ada.create_task("water the plants")
    events = await listen(instance, ada)
    await events.apply()

    # Without a fraction of a second, which a JSON encoder may leave out.
    await sql.execute("UPDATE tasks SET deleted_at = '2030-01-01T00:00:00Z'")

    [deleted] = await events.apply()
    assert (deleted["id"], deleted["deleted_at"]) == (task.id, "2030-01-01T00:00:00.000000Z")


@pytest.mark.parametrize("how", ["query", "header"])
async def test_a_stream_continues_after_a_token(
    instance: Instance, ada: Person, listen: Listen, how: str
) -> None:
    token = (await ada.list_tasks()).sync_token
    made = [await ada.create_task(f"task {number}") for number in range(250)]

    if how == "query":
        events = await listen(instance, ada, f"?since={token}")
    else:
        events = await listen(instance, ada, "?since=" + token, **{"Last-Event-ID": token})

    sizes = [len(await events.apply()) for _ in range(3)]
    assert sizes == [100, 100, 50]
    assert list(events.tasks) == [task.id for task in made]


async def test_a_change_without_a_hint_is_sent_soon(
    instance: Instance, sql: asyncpg.Connection, ada: Person, listen: Listen
) -> None:
    events = await listen(instance, ada)
    await events.apply()

    await sql.execute("INSERT INTO tasks (user_id, title) VALUES ('ada', 'by hand')")

    assert [each["title"] for each in await events.apply()] == ["by hand"]


async def test_nobody_gets_the_changes_of_another(
    instance: Instance, sql: asyncpg.Connection, listen: Listen
) -> None:
    ada, bob = [await person_of(instance, sql, name) for name in ("ada", "bob")]
    events = await listen(instance, ada)
    await events.apply()

    await bob.create_task("of bob")
    await ada.create_task("of ada")

    assert [each["title"] for each in await events.apply()] == ["of ada"]


async def test_after_a_sign_out_nothing_later_is_sent_and_the_stream_ends(
    instance: Instance, sql: asyncpg.Connection, ada: Person, listen: Listen
) -> None:
    events = await listen(instance, ada)
    await events.apply()

    await sql.execute("UPDATE user_sessions SET revoked = true")
    await sql.execute("INSERT INTO tasks (user_id, title) VALUES ('ada', 'later')")
    instance.hub.hint("ada")

    end = await events.next()
    assert (end["event"], json.loads(end["data"])["status"]) == ("end", 401)
    with pytest.raises(EOFError):
        await events.next()


async def test_a_sign_out_ends_an_idle_stream(
    instance: Instance, sql: asyncpg.Connection, ada: Person, listen: Listen
) -> None:
    events = await listen(instance, ada)
    await events.apply()

    await sql.execute("UPDATE user_sessions SET revoked = true")

    assert (await events.next())["event"] == "end"


async def test_streams_of_a_person_share_one_read(
    instance: Instance, ada: Person, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [await listen(instance, ada) for _ in range(hub.MAX_OF_A_PERSON)]
    for events in streams:
        await events.apply()
    await ada.create_task("to bring all to one position")
    for events in streams:
        await events.apply()
    reads = 0
    original = hub.feeds.changes

    async def changes(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await original(*arguments)

    monkeypatch.setattr(hub.feeds, "changes", changes)
    await ada.create_task("water the plants")
    for events in streams:
        assert [each["title"] for each in await events.apply()] == ["water the plants"]

    assert reads == 1


async def test_an_eleventh_stream_is_refused(
    instance: Instance, ada: Person, listen: Listen
) -> None:
    streams = [await listen(instance, ada) for _ in range(hub.MAX_OF_A_PERSON)]
    for events in streams:
        await events.apply()

    refused = (await listen(instance, ada)).response

    await refused.aread()
    assert (refused.status_code, refused.json()["type"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"]


async def test_a_stream_too_many_of_an_instance_is_refused(
    instance: Instance, ada: Person, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MAX_STREAMS", 0)

    assert (await listen(instance, ada)).response.status_code == 503


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?since=x", {}, 400),
        ("?typo=x", {}, 400),
        ("", {"Last-Event-ID": "x"}, 400),
        (f"?since={'A' * 43}", {}, 410),
        ("", {"Last-Event-ID": "A" * 43}, 410),
    ],
)
async def test_a_stream_that_cannot_begin_is_refused_with_a_status(
    instance: Instance,
    ada: Person,
    listen: Listen,
    query: str,
    headers: dict[str, str],
    status: int,
) -> None:
    assert (await listen(instance, ada, query, **headers)).response.status_code == status


async def test_a_client_that_leaves_is_forgotten(
    instance: Instance, ada: Person, listen: Listen
) -> None:
    events = await listen(instance, ada)
    await events.apply()
    assert len(instance.hub) == 1

    await events.response.aclose()

    async with asyncio.timeout(GIVE_UP):
        while len(instance.hub):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_instance_that_leaves_cuts_its_streams_in_the_middle(
    instance: Instance, ada: Person, listen: Listen
) -> None:
    events = await listen(instance, ada)
    await events.apply()

    instance.hub.cut()

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await events.next()
    assert (await listen(instance, ada)).response.status_code == 503


async def test_head_has_the_headers_alone(instance: Instance, ada: Person) -> None:
    async with httpx.AsyncClient(timeout=GIVE_UP) as client:
        response = await client.head(
            f"{instance.url}/tasks/events", headers={"Authorization": f"Bearer {ada.token}"}
        )

    assert (response.status_code, response.content) == (200, b"")
    assert len(instance.hub) == 0


async def test_a_stream_that_is_old_is_cut_and_continues_with_its_token(
    instance: Instance, ada: Person, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.event_stream.HEARTBEAT_SECONDS", 0.1)
    vars(instance.app.state.twofold.settings)["live_max_seconds"] = 1
    events = await listen(instance, ada)
    await events.apply()
    with pytest.raises(httpx.RemoteProtocolError):
        await events.next()
    task = await ada.create_task("meanwhile")

    again = await listen(instance, ada, **{"Last-Event-ID": events.token})

    assert [each["id"] for each in await again.apply()] == [task.id]


async def test_heartbeats_go_on_while_the_database_does_not_answer(
    instance: Instance,
    sql: asyncpg.Connection,
    ada: Person,
    listen: Listen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.1)
    events = await listen(instance, ada)
    await events.apply()

    async with sql.transaction():
        await sql.execute("INSERT INTO tasks (user_id, title) VALUES ('ada', 'late')")
        await sql.execute("LOCK TABLE feeds IN ACCESS EXCLUSIVE MODE")
        instance.hub.hint("ada")
        # The first of them may have been sent before the hint.
        async with asyncio.timeout(10):
            for _ in range(10):
                assert await anext(events.lines) == ":"

    assert [task["title"] for task in await events.apply()] == ["late"]


async def test_the_log_says_while_streams_are_not_checked(
    serve: Serve, sql: asyncpg.Connection, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twofold.live")
    instance = await serve(live_check_seconds=1, request_deadline_seconds=0.5)
    events = await listen(instance, await person_of(instance, sql))
    await events.apply()

    def last() -> str:
        return "".join(each.getMessage() for each in records_of(caplog, "twofold.live")[-1:])

    async def until_logged(beginning: str) -> None:
        async with asyncio.timeout(GIVE_UP):
            while not last().startswith(beginning):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)

    async with sql.transaction():
        await sql.execute("LOCK TABLE feeds IN ACCESS EXCLUSIVE MODE")
        await until_logged("streams are not checked: database: ")
    await until_logged("streams are checked again")


@pytest.mark.parametrize("is_hinted", [True, False])
async def test_streams_are_cut_when_the_database_is_away_for_long(
    serve: Serve,
    database_url: str,
    sql: asyncpg.Connection,
    listen: Listen,
    monkeypatch: pytest.MonkeyPatch,
    is_hinted: bool,
) -> None:
    async with served_until_the_database_is_away(serve, database_url, monkeypatch) as instance:
        ada = await person_of(instance, sql)
        events = await listen(instance, ada)
        await events.apply()
        await asyncio.sleep(0.3)  # Until the stream is idle, so that only the check can cut it.

    if is_hinted:
        instance.hub.hint("ada")

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await events.next()
