"""``twofold reassign``: the tasks of one user are given to another, while both work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from api import cli
from persistence.embedded.postgres import Postgres
from tests.conftest import run_sql, until_waiting
from tests.neighbours.databases import client_of, new_installation
from tests.people import Person, sign_in
from tests.surfaces import ApiError, GraphQLSurface, RestSurface

Run = Callable[..., Coroutine[Any, Any, int]]


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """A database with an installation."""
    return await new_installation(postgres)


@pytest.fixture
def reassign(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``twofold reassign`` with these arguments, and returns its exit code."""
    monkeypatch.setenv("DATABASE_URL", url)

    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(cli.main, ["reassign", *arguments])

    return run


async def add_tasks(url: str, count: int, *user_ids: str) -> None:
    """Give each of these users so many tasks."""
    sql = await asyncpg.connect(url)
    await sql.execute(
        "INSERT INTO tasks (user_id, title) SELECT u, u || ' ' || n"
        " FROM unnest($1::text[]) u, generate_series(1, $2) n",
        user_ids,
        count,
    )
    await sql.close()


async def owners(url: str) -> dict[str, int]:
    """How many tasks each user has."""
    sql = await asyncpg.connect(url)
    rows = await sql.fetch("SELECT user_id, count(*) FROM tasks GROUP BY 1")
    await sql.close()
    return {row[0]: row[1] for row in rows}


async def test_the_trash_of_a_user_is_given_away_with_the_tasks(url: str, reassign: Run) -> None:
    await add_tasks(url, 2, "visitor")
    await run_sql(url, "UPDATE tasks SET deleted_at = now() WHERE title = 'visitor 1'")

    assert await reassign("visitor", "ada") == 0

    sql = await asyncpg.connect(url)
    async with client_of(url) as client:
        ada = await sign_in(sql, RestSurface(client), "ada")
        listed, trash = await ada.list_tasks(), await ada.list_trash()
    await sql.close()
    assert (listed.titles, trash.titles) == (["visitor 2"], ["visitor 1"])


async def test_all_tasks_of_a_user_and_only_they_are_given_away(
    url: str, reassign: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await add_tasks(url, 20, "visitor", "ada", "bob")

    codes = [await reassign("visitor", "ada"), await reassign("visitor", "ada")]

    assert codes == [0, 0]
    assert capsys.readouterr().out.splitlines() == ["Reassigned 20 tasks.", "Reassigned 0 tasks."]
    assert await owners(url) == {"ada": 40, "bob": 20}
    async with client_of(url) as client:
        sql = await asyncpg.connect(url)
        ada = await sign_in(sql, RestSurface(client), "ada")
        await sql.close()
        tasks = (await ada.list_tasks(limit=100)).tasks
    # Their entity tags are new, because what they stand for has another owner.
    assert {(task.title.split()[0], task.version) for task in tasks} == {("visitor", 2), ("ada", 1)}


@pytest.mark.parametrize(
    ("ids", "code", "expected"),
    [
        (["nobody", "ada"], 0, "Reassigned 0 tasks.\n"),
        (["--", "-x", "--y"], 0, "Reassigned 0 tasks.\n"),
        (["'; DROP TABLE tasks; --", "Ω\u202e"], 0, "Reassigned 0 tasks.\n"),
        (["ada", "ada"], 2, "Name two different user ids, the old one first.\n"),
        (["", "ada"], 2, "Name two different user ids, the old one first.\n"),
        (["ada", " "], 2, "Name two different user ids, the old one first.\n"),
        (["\udcff", "ada"], 2, "A user id is not valid UTF-8.\n"),
    ],
)
async def test_the_exit_code_and_a_sentence_tell_what_was_done(
    reassign: Run, capsys: pytest.CaptureFixture[str], ids: list[str], code: int, expected: str
) -> None:
    assert await reassign(*ids) == code

    output = capsys.readouterr()
    assert output.out + output.err == expected


@pytest.mark.parametrize(
    ("trouble", "done", "reason"),
    [
        ("ALTER TABLE tasks RENAME TO jobs", 0, 'relation "tasks" does not exist'),
        ("UPDATE tasks SET version = 2147483647 WHERE title = 'visitor 15'", 14, "out of range"),
    ],
)
async def test_a_failure_says_what_was_done_before(
    url: str,
    reassign: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
    done: int,
    reason: str,
) -> None:
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await add_tasks(url, 20, "visitor")
    await run_sql(url, trouble)

    assert await reassign("visitor", "ada") == 1

    expected = capsys.readouterr().err
    assert expected.startswith(f"Reassigned {done} tasks, then it failed: ")
    assert reason in expected


@pytest.mark.slow
async def test_a_hundred_thousand_tasks_are_given_away_in_steps(
    url: str, reassign: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    await add_tasks(url, 100_000, "visitor")
    sql = await asyncpg.connect(url)
    seen = set()

    running = asyncio.create_task(reassign("visitor", "ada"))
    while not running.done():
        # What others see: whole steps.
        seen.add(await sql.fetchval("SELECT count(*) FROM tasks WHERE user_id = 'ada'"))
    await sql.close()

    assert await running == 0
    assert capsys.readouterr().out == "Reassigned 100000 tasks.\n"
    assert len(seen) > 10
    assert {count % 1000 for count in seen} == {0}


async def at_once(url: str, *runs: Coroutine[Any, Any, int]) -> list[int]:
    """Run commands that all wait for the same lock before they begin."""
    holder = await asyncpg.connect(url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE tasks IN SHARE MODE")
        running = [asyncio.create_task(run) for run in runs]
        await until_waiting(holder, len(runs), "relation")
    await holder.close()
    return await asyncio.gather(*running)


async def test_two_runs_at_once_give_each_task_away_once(
    url: str, reassign: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await add_tasks(url, 300, "visitor")

    codes = await at_once(url, reassign("visitor", "ada"), reassign("visitor", "ada"))

    assert codes == [0, 0]
    counts = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert sum(counts) == 300
    assert await owners(url) == {"ada": 300}
    sql = await asyncpg.connect(url)
    assert await sql.fetchval("SELECT max(version) FROM tasks") == 2
    await sql.close()


async def test_it_ends_although_every_task_is_given_back(
    url: str, reassign: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await add_tasks(url, 20, "visitor")
    await run_sql(
        url,
        "CREATE FUNCTION give_back() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.user_id = OLD.user_id; RETURN NEW; END';"
        "CREATE TRIGGER give_back BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION give_back()",
    )

    assert await reassign("visitor", "ada") == 0

    assert await owners(url) == {"visitor": 20}


async def test_both_users_work_meanwhile_and_no_write_is_lost(
    url: str, reassign: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.commands.reassign.BATCH", 7)
    await add_tasks(url, 600, "visitor")
    async with client_of(url) as client:
        sql = await asyncpg.connect(url)
        people = [
            await sign_in(sql, surface(client), name)
            for name in ("visitor", "ada")
            for surface in (RestSurface, GraphQLSurface)
        ]
        over = asyncio.Event()
        workers = [asyncio.create_task(work(person, over)) for person in people]
        await asyncio.sleep(0)
        assert await reassign("visitor", "ada") == 0
        over.set()
        created = [title for titles in await asyncio.gather(*workers) for title in titles]

        # What the visitor added after the end.
        assert await reassign("visitor", "ada") == 0

    titles = await sql.fetch("SELECT title FROM tasks WHERE title LIKE 'new%'")
    changed = await sql.fetchval("SELECT count(*) FROM tasks WHERE completed")
    await sql.close()
    assert sorted(created) == sorted(row[0] for row in titles)
    assert await owners(url) == {"ada": 600 + len(created)}
    assert changed > 0


async def work(person: Person, over: asyncio.Event) -> list[str]:
    """Add and change tasks until it is over. Returns the titles of those that were added."""
    created: list[str] = []
    while not over.is_set():
        title = f"new {person.user_id} {person.surface.api} {len(created)}"
        await person.create_task(title)
        created.append(title)
        for task in (await person.list_tasks(limit=5)).tasks:
            try:
                assert (await person.change_task(task.id, completed=True)).completed
            except ApiError as error:
                # It was given away between the list and the change.
                if (person.user_id, error.problem["type"]) != ("visitor", "not_found_error"):
                    raise
    return created
