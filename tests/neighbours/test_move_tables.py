"""``twofold move-tables``: an existing installation gets a schema of its own."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from api import cli
from api.server import readiness
from persistence.embedded.postgres import Postgres
from persistence.migrations import MIGRATION_LOCK
from tests.conftest import new_database, run_sql, until_waiting
from tests.neighbours.databases import both_adas, client_of, new_installation
from tests.people import Person
from tests.surfaces import ApiError

Run = Callable[..., Awaitable[int]]


@pytest.fixture
async def url(postgres: Postgres) -> str:
    """A database with an installation in ``public``."""
    return await new_installation(postgres)


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``twofold move-tables`` on a database, and returns its exit code."""

    async def run(url: str, schema: str = "ours") -> int:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("DATABASE_SCHEMA", schema)
        return await asyncio.to_thread(cli.main, ["move-tables"])

    return run


async def values(url: str, query: str) -> list[str]:
    """The first column of what a query finds, as text."""
    sql = await asyncpg.connect(url)
    try:
        return [str(row[0]) for row in await sql.fetch(query)]
    finally:
        await sql.close()


OUR_SCHEMAS = """
    SELECT relnamespace::regnamespace FROM pg_class
    WHERE relkind = 'r'
        AND relname IN ('tasks', 'idempotency_keys', 'feeds', 'twofold_alembic_version')
"""


async def test_what_was_there_is_there_and_new_tasks_are_newer(url: str, move: Run) -> None:
    async with client_of(url) as client:
        ada, _ = await both_adas(url, client)
        first = await ada.create_task("water the plants")

    assert await move(url) == 0

    async with client_of(url, database_schema="ours") as client:
        assert (await client.get("/health/ready")).status_code == 200
        for ada in await both_adas(url, client):
            second = await ada.create_task("feed the cat")
            assert second.id > first.id
            assert await ada.get_task(first.id) == first
            await ada.delete_task(second.id)


BELONGINGS = """
    SELECT unnest(ARRAY[
        (SELECT string_agg(replace(indexdef, schemaname || '.', ''), E'\\n' ORDER BY indexname)
            FROM pg_indexes WHERE tablename IN ('tasks', 'twofold_alembic_version')),
        (SELECT string_agg(conname || pg_get_constraintdef(k.oid), E'\\n' ORDER BY conname)
            FROM pg_constraint k JOIN pg_class c ON c.oid = conrelid WHERE relname = 'tasks'),
        (SELECT string_agg(tgname, E'\\n') FROM pg_trigger WHERE NOT tgisinternal),
        (SELECT string_agg(relname || ' ' || coalesce(relacl::text, ''), E'\\n' ORDER BY relname)
            FROM pg_class WHERE relname ~ '^tasks|^twofold_alembic|^open_tasks'),
        (SELECT attacl::text FROM pg_attribute WHERE attname = 'title'
            AND attrelid IN (SELECT oid FROM pg_class WHERE relname = 'tasks')),
        (SELECT string_agg(refobjid::regclass::oid::text, ' ') FROM pg_depend
            WHERE objid IN (SELECT oid FROM pg_class WHERE relname = 'tasks_id_seq')
            AND deptype = 'i'),
        (SELECT string_agg(title, ' ') FROM open_tasks),
        (SELECT string_agg(note, ' ') FROM notes JOIN open_tasks ON open_tasks.id = task_id),
        (SELECT obj_description(oid) FROM pg_class WHERE relname = 'tasks'),
        (SELECT string_agg(prrelid::oid::text, ' ') FROM pg_publication_rel)
    ])
"""


async def test_everything_that_belongs_to_a_table_moves_with_it(url: str, move: Run) -> None:
    role = f"reader_{secrets.token_hex(6)}"
    await run_sql(
        url,
        f"""
        CREATE ROLE {role};
        GRANT SELECT (title) ON tasks TO {role};
        GRANT INSERT ON tasks TO {role};
        INSERT INTO tasks (user_id, title) VALUES ('ada', 'water the plants');
        CREATE VIEW open_tasks AS SELECT * FROM tasks WHERE NOT completed;
        CREATE TABLE notes (task_id bigint REFERENCES tasks, note text);
        INSERT INTO notes SELECT id, 'the cactus too' FROM tasks;
        CREATE INDEX of_the_operator ON tasks (title);
        CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER noted BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION noted();
        COMMENT ON TABLE tasks IS 'what is to do';
        CREATE PUBLICATION copies FOR TABLE tasks;
        """,  # noqa: S608  # a name made here
    )
    before = await values(url, BELONGINGS)

    assert await move(url) == 0

    assert "None" not in before
    assert await values(url, BELONGINGS) == before
    sequences = "SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 'tasks_id_seq'"
    assert await values(url, sequences) == ["ours"]
    await run_sql(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_may_serve_and_no_more_goes_on_serving(
    owners: str, servants: str, move: Run
) -> None:
    assert await move(owners) == 0

    async with client_of(servants, database_schema="ours") as client:
        assert (await client.get("/health/ready")).status_code == 200
        for ada in await both_adas(owners, client):
            await ada.create_task("water the plants")
    others = "SELECT has_schema_privilege('public', 'ours', 'USAGE')"
    assert await values(owners, others) == ["False"]


async def test_a_right_of_everyone_stays_one(url: str, move: Run) -> None:
    await run_sql(url, "GRANT SELECT ON tasks TO PUBLIC")

    assert await move(url) == 0

    assert await values(url, "SELECT has_schema_privilege('public', 'ours', 'USAGE')") == ["True"]


async def test_a_second_run_says_that_it_is_done(
    url: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [await move(url), await move(url)]

    assert codes == [0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "The tables are in the schema ours.",
        "The tables are in the schema ours already.",
    ]


async def test_two_runs_at_once_move_once(
    url: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
    runs = [asyncio.create_task(move(url)) for _ in range(2)]
    await until_waiting(holder, len(runs))
    await holder.close()

    assert await asyncio.gather(*runs) == [0, 0]
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "The tables are in the schema ours already.",
        "The tables are in the schema ours.",
    ]


# --- Instances that serve meanwhile -------------------------------------------------------


async def test_no_write_is_lost_and_instances_with_the_setting_serve_without_a_restart(
    url: str, move: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REUSE_SECONDS", 0.0)
    async with client_of(url) as old:
        sessions = await both_adas(url, old)
        async with client_of(url, database_schema="ours") as new:
            early = await new.get("/health/ready")
            over = asyncio.Event()
            # Both protocols of each instance, four at a time.
            writers = [
                asyncio.create_task(write(person, f"{name} {number}", over))
                for name, people in {"old": sessions, "new": await both_adas(url, new)}.items()
                for number, person in enumerate(people * 4)
            ]
            await asyncio.sleep(0.2)
            assert await move(url) == 0
            ready = await new.get("/health/ready")
            await asyncio.sleep(0.2)
            over.set()
            titles = [title for titles in await asyncio.gather(*writers) for title in titles]
            late = await old.get("/health/ready")

    assert (early.status_code, late.status_code) == (503, 503)
    assert ready.status_code == 200
    assert sorted(titles) == sorted(await values(url, "SELECT title FROM ours.tasks"))
    assert {title.split()[0] for title in titles} == {"old", "new"}


async def write(person: Person, name: str, over: asyncio.Event) -> list[str]:
    """Create tasks until it is over. Returns the titles of those that were created."""
    titles = []
    for number in itertools.count():
        if over.is_set():
            break
        title = f"{name} {number}"
        try:
            await person.create_task(title)
            titles.append(title)
        except ApiError as error:
            if error.problem["type"] != "service_unavailable":
                raise
        await asyncio.sleep(0.001)
    return titles


async def test_a_table_in_use_ends_the_move_within_a_bound_and_nothing_is_changed(
    url: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = await asyncpg.connect(url)
    async with client_of(url) as client, holder.transaction():
        await holder.execute("SELECT FROM tasks")
        [ada, _] = await both_adas(url, client)

        moving = asyncio.create_task(move(url))
        await until_waiting(holder, 1, "relation")
        # It waits behind the move, which waits for the holder.
        task = await ada.create_task("water the plants")

        assert await moving == 1
        assert await ada.get_task(task.id) == task
    await holder.close()

    assert "The tables could not be moved: a statement" in capsys.readouterr().err
    assert set(await values(url, OUR_SCHEMAS)) == {"public"}
    assert await values(url, "SELECT to_regnamespace('ours')") == ["None"]


# --- What cannot be moved -----------------------------------------------------------------


async def test_a_role_that_is_not_the_owner_gets_a_message(
    owners: str, servants: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_sql(owners, "CREATE SCHEMA ours; GRANT CREATE, USAGE ON SCHEMA ours TO servant")

    assert await move(servants) == 1

    assert "must be owner of table tasks" in capsys.readouterr().err


async def test_a_schema_that_others_may_not_enter_is_not_moved_into(
    owners: str, servants: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_sql(
        owners,
        "CREATE ROLE keeper; CREATE SCHEMA ours AUTHORIZATION keeper;"
        "CREATE ROLE mover LOGIN PASSWORD 'pw';"
        "GRANT USAGE, CREATE ON SCHEMA ours TO mover;"
        "ALTER TABLE tasks OWNER TO mover; ALTER TABLE twofold_alembic_version OWNER TO mover",
    )
    try:
        assert await move(servants.replace("servant", "mover")) == 1
        assert set(await values(owners, OUR_SCHEMAS)) == {"public"}
    finally:
        await run_sql(
            owners,
            "REASSIGN OWNED BY mover, keeper TO twofold; DROP OWNED BY mover, keeper;"
            "DROP ROLE mover, keeper",
        )

    assert "GRANT USAGE ON SCHEMA ours TO servant" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        ("CREATE TABLE ours.tasks ()", "There is a table tasks in the schema ours, and another"),
        ("ALTER TABLE tasks SET SCHEMA ours", "are in different schemas: one of them is not ours"),
        (
            "DROP TABLE tasks; CREATE TABLE elsewhere.tasks ()",
            "are in different schemas: one of them is not ours",
        ),
        ("DROP TABLE tasks", "There is no table tasks to move."),
        ("DROP TABLE twofold_alembic_version", "There is no table twofold_alembic_version to move"),
    ],
)
async def test_what_is_not_an_installation_is_left_alone(
    url: str, move: Run, capsys: pytest.CaptureFixture[str], trouble: str, problem: str
) -> None:
    name = url.rpartition("/")[2]
    await run_sql(
        url,
        f"CREATE SCHEMA ours; CREATE SCHEMA elsewhere; {trouble};"
        f"ALTER DATABASE {name} SET search_path TO public, elsewhere",
    )
    before = await values(url, f"{OUR_SCHEMAS} ORDER BY oid")

    assert await move(url) == 1

    assert await values(url, f"{OUR_SCHEMAS} ORDER BY oid") == before
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("", "DATABASE_SCHEMA is not set"),
        ("ours", "There is no table tasks to move."),
        ("Two fold", "DATABASE_SCHEMA: 'Two fold' is not a schema's name"),
        ("x; DROP TABLE users", "is not a schema's name"),
        ("pg_temp", "'pg_temp' is one of PostgreSQL's own schemas"),
    ],
)
async def test_what_cannot_be_moved_is_said_in_a_sentence(
    postgres: Postgres, schema: str, problem: str, move: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await new_database(postgres, f"empty_{secrets.token_hex(6)}")

    assert await move(url, schema) in (1, 2)

    errors = capsys.readouterr().err
    assert problem in errors
    assert "Traceback" not in errors
