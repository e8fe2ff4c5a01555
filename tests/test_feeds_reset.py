"""``twofold feeds reset``: after a restored backup, nobody takes new changes for old ones."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from api import cli
from persistence.embedded.postgres import Postgres
from tests.neighbours.databases import both_adas, client_of, new_installation
from tests.surfaces import ApiError


async def test_every_token_is_expired_and_clients_start_anew(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await new_installation(postgres)
    monkeypatch.setenv("DATABASE_URL", url)
    async with client_of(url) as client:
        ada, graphql_ada = await both_adas(url, client)
        before_all = (await ada.list_changes()).token
        task = await ada.create_task("water the plants")
        token = (await ada.list_tasks()).sync_token

        assert await asyncio.to_thread(cli.main, ["feeds", "reset"]) == 0

        for person in (ada, graphql_ada):
            for since in (before_all, token):
                with person.refused("sync_token_expired"):
                    await person.list_changes(since=since)
            page = await person.list_changes()
            assert page.tasks == [task]
            assert (await person.list_changes(since=page.token)).tasks == []
    assert capsys.readouterr().out == "Every client that follows changes will start anew.\n"


async def test_a_backup_that_was_restored_loses_no_change_after_a_reset(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await new_installation(postgres)
    monkeypatch.setenv("DATABASE_URL", url)
    sql = await asyncpg.connect(url)
    async with client_of(url) as client:
        ada, _ = await both_adas(url, client)
        await ada.create_task("in the backup")
        await sql.execute(
            "CREATE TABLE saved_tasks AS TABLE tasks; CREATE TABLE saved_feeds AS TABLE feeds"
        )
        lost = await ada.create_task("not in the backup")
        token = (await ada.list_changes()).token
        await sql.execute(
            "SET session_replication_role = replica; DELETE FROM tasks; DELETE FROM feeds;"
            "INSERT INTO tasks OVERRIDING SYSTEM VALUE SELECT * FROM saved_tasks;"
            "INSERT INTO feeds SELECT * FROM saved_feeds; RESET session_replication_role"
        )
        await ada.create_task("after it")
        # Without the reset the client keeps a task that is lost, and misses the new one.
        assert (await ada.list_changes(since=token)).tasks == []

        assert await asyncio.to_thread(cli.main, ["feeds", "reset"]) == 0

        with pytest.raises(ApiError, match="sync_token_expired"):
            await ada.list_changes(since=token)
        titles = [task.title for task in (await ada.list_changes()).tasks]
    await sql.close()
    assert titles == ["in the backup", "after it"]
    assert lost.title not in titles
