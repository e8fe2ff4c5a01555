"""What clients see when PostgreSQL or Redis fails under the running service.

In every drill: an answer is what was asked for or 503 in the door's own shape, within the
request's deadline; what was acknowledged is stored once, what was not at most once; /health
stays quick; the pool is whole afterwards; and the log has one line for each failure.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from api.app import create_app
from persistence.database import RETRY_FOR, Database
from persistence.embedded.postgres import Postgres
from persistence.embedded.postgres import postgres as embedded_postgres
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from persistence.errors import Unavailable
from persistence.migrations import upgrade
from persistence.pool import CANCEL_TIMEOUT, PoolSettings, create_engine
from persistence.sql import Statement
from tests.conftest import new_client, new_database, run_sql, settings_of_tests
from tests.drills.crowd import LATENESS, Crowd
from tests.drills.house import House, connected, down, full_disk, locked_out, signed_in, stopped
from tests.people import SESSION_TABLES

WITHIN = 5.0
"""Seconds after a server's return in which all is well again."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """PostgreSQL that keeps its word: what it acknowledged survives a crash."""
    with embedded_postgres(durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


@pytest.fixture(scope="module")
async def url(server: Postgres) -> str:
    url = await new_database(server, "drills")
    await asyncio.to_thread(upgrade, url)
    await run_sql(url, SESSION_TABLES)
    return url


@pytest.fixture(scope="module")
async def token(url: str) -> str:
    return await signed_in(url, "ada")


@pytest.fixture(scope="module")
async def patient(
    url: str, token: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """An instance with the deadline that it has by default."""
    log = tmp_path_factory.mktemp("patient") / "log"
    async with House.on(url, log, token, name="patient", deadline=10) as house:
        yield house


@pytest.fixture(scope="module")
async def hasty(
    url: str, token: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """An instance that gives up after a second."""
    log = tmp_path_factory.mktemp("hasty") / "log"
    async with House.on(url, log, token, name="hasty", deadline=1) as house:
        yield house


# --- PostgreSQL goes away -------------------------------------------------------------------


async def test_reads_ride_out_a_restart(patient: House, server: Postgres) -> None:
    async with patient.drill() as crowd:
        await asyncio.to_thread(server.restart)
        recovered = await crowd.until_served()

    assert not crowd.told("read", done=False)
    assert recovered < WITHIN


async def test_reads_ride_out_a_crash_of_two_seconds(patient: House, server: Postgres) -> None:
    async with patient.drill() as crowd:
        async with down(server, 2):
            await asyncio.sleep(0.5)
            ready = await patient.ask("GET", "/health/ready")
        recovered = await crowd.until_served()

    assert (ready.verdict, ready.body["failing"]) == ("unavailable", "database")
    assert not crowd.told("read", done=False)
    assert recovered < WITHIN


async def test_a_stopped_server_holds_nobody_beyond_the_deadline(
    hasty: House, server: Postgres
) -> None:
    async with hasty.drill() as crowd:
        with stopped(server.process):
            # More than there are connections: all of them hang, and the rest wait for one.
            rush = [hasty.ask("GET", "/tasks") for _ in range(2 * hasty.connections)]
            ready, *answers = await asyncio.gather(hasty.ask("GET", "/health/ready"), *rush)
        recovered = await crowd.until_served()

    assert {answer.verdict for answer in answers} == {"unavailable"}
    assert min(answer.seconds for answer in answers) > 0.9
    assert max(answer.seconds for answer in answers) < 1.3
    assert (ready.verdict, ready.body["failing"]) == ("unavailable", "database")
    assert crowd.told("create", "change", "delete", done=False)
    assert recovered < WITHIN


@pytest.mark.drill
async def test_connections_that_are_terminated_again_and_again_fail_no_read(
    patient: House, server: Postgres
) -> None:
    async with patient.drill() as crowd, connected(server.url()) as sql:
        for _ in range(10):
            await sql.execute(_TERMINATE, "patient")
            await asyncio.sleep(0.1)
        recovered = await crowd.until_served()

    assert not crowd.told("read", done=False)
    assert recovered < WITHIN


_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1
"""


async def test_a_statement_that_is_terminated_half_way_is_503_if_it_writes(
    patient: House, url: str
) -> None:
    async with patient.drill(of_each=0), locked_out(url), connected(url) as sql:
        answers = asyncio.gather(*(
            asyncio.create_task(patient.ask(*asked))
            for asked in (
                ("GET", "/tasks"),
                ("POST", "/graphql", {"query": "{ tasks { nodes { id } } }"}),
                ("POST", "/tasks", {"title": "never", "description": "never"}),
                ("POST", "/graphql", {"query": _NEVER}),
            )
        ))  # fmt: skip
        await until(sql, _LOCKED, "patient", at_least=4)
        await sql.execute(_TERMINATE, "patient")
        await asyncio.sleep(0.2)

    [read, read_too, write, write_too] = await answers
    assert read.is_done
    assert read_too.is_done
    assert (write.verdict, write.status) == ("unavailable", 503)
    assert (write_too.verdict, write_too.status) == ("unavailable", 200)
    async with connected(url) as sql:
        assert not await sql.fetchval("SELECT count(*) FROM tasks WHERE description = 'never'")


_NEVER = 'mutation { done: createTask(input: {title: "never", description: "never"}) { id } }'

_LOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'
"""


async def until(sql: asyncpg.Connection, counted: str, *values: Any, at_least: int) -> None:
    """Wait until so many are counted."""
    async with asyncio.timeout(5):
        while await sql.fetchval(counted, *values) < at_least:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)


async def test_a_row_that_somebody_holds_is_503_at_the_deadline_and_then_nobodys(
    hasty: House, url: str
) -> None:
    made = await hasty.ask("POST", "/tasks", {"title": "held"})
    task_id = made.body["id"]
    path = f"/tasks/{task_id}"
    change = f'mutation {{ updateTask(id: {task_id}, input: {{title: "x"}}) {{ version }} }}'

    async with hasty.drill() as crowd:
        async with connected(url) as other, other.transaction():
            await other.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
            held = await hasty.both_doors(("PATCH", path, {"title": "x"}), change)
            async with asyncio.timeout(1):
                while await other.fetchval(_LOCKED, "hasty"):  # noqa: ASYNC110  # no event
                    await asyncio.sleep(0.02)
        after = await hasty.ask("GET", path)
        free = await hasty.both_doors(("PATCH", path, {"title": "y"}), change)

    assert [(answer.verdict, answer.status) for answer in held] == [
        ("unavailable", 503), ("unavailable", 200),
    ]  # fmt: skip
    assert all(0.9 < answer.seconds < 1.5 for answer in held)
    assert after.body["version"] == 1
    assert all(answer.is_done for answer in free)
    assert not crowd.told(done=False)


# --- PostgreSQL refuses ---------------------------------------------------------------------


async def test_a_read_only_server_is_read_from(patient: House, server: Postgres, url: str) -> None:
    async with patient.drill() as crowd:
        async with connected(url) as sql:
            await sql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await sql.execute("SELECT pg_reload_conf()")
            await asyncio.sleep(0.3)
            since = time.monotonic()
            await asyncio.sleep(0.7)
            until = time.monotonic()
            await sql.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            await sql.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await sql.execute("SELECT pg_reload_conf()")
        recovered = await crowd.until_served()

    meanwhile = [answer for answer in crowd.told(since=since) if answer.ended < until]
    assert {answer.is_done for answer in meanwhile if answer.verb == "read"} == {True}
    assert {answer.is_done for answer in meanwhile if answer.verb != "read"} == {False}
    assert recovered < WITHIN


async def test_a_full_disk_is_read_from(patient: House, server: Postgres, url: str) -> None:
    async with patient.drill() as crowd:
        async with full_disk(server, url) as kind:
            long = {"title": "long", "description": random.randbytes(500).hex()}
            # The table's own pages may have room for some, but not for a megabyte.
            for _ in range(1000):
                answer = await patient.ask("POST", "/tasks", long)
                if not answer.is_done:
                    break
            reads = await patient.both_doors(("GET", "/tasks", None), "{ tasks { totalCount } }")
        recovered = await crowd.until_served()

    print(f"disk: {kind}")
    assert answer.verdict == "unavailable"
    assert all(answer.is_done for answer in reads)
    assert recovered < WITHIN
    await run_sql(url, "DELETE FROM tasks WHERE title = 'long'")


async def test_a_server_out_of_connections_is_served_with_those_there_are(
    hasty: House, server: Postgres
) -> None:
    async with hasty.drill(of_each=4) as crowd:
        async with connected(server.url()) as sql, all_connections_of(server) as taken:
            await asyncio.sleep(0.7)
            served = not crowd.told(done=False)
            async with asyncio.timeout(5):
                while (ready := await hasty.ask("GET", "/health/ready")).is_done:
                    await sql.execute(_TERMINATE, "hasty")
                    taken += await connections_of(server)
            await asyncio.sleep(0.5)
        recovered = await crowd.until_served()

    assert served
    assert (ready.verdict, ready.body.get("failing")) == ("unavailable", "database")
    assert crowd.told("read", done=False)
    assert recovered < WITHIN


@asynccontextmanager
async def all_connections_of(server: Postgres) -> AsyncIterator[list[asyncpg.Connection]]:
    """Somebody else has them all."""
    taken = await connections_of(server)
    try:
        yield taken
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))


async def connections_of(server: Postgres) -> list[asyncpg.Connection]:
    """As many as can be had."""
    taken: list[asyncpg.Connection] = []
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            attempts = [asyncpg.connect(server.url()) for _ in range(10)]
            made = await asyncio.gather(*attempts, return_exceptions=True)
            taken += [each for each in made if isinstance(each, asyncpg.Connection)]
            for each in made:
                if isinstance(each, BaseException):
                    raise each
    return taken


@pytest.mark.drill
async def test_an_instance_that_started_without_its_database_finds_it(
    server: Postgres, url: str, token: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    asked = (("GET", "/tasks", None), "{ viewer { userId } }")
    await asyncio.to_thread(server.stop)
    try:
        async with House.on(url, log, token, name="early", deadline=1) as house:
            early = await house.both_doors(*asked)
            # Everyone looks for the sessions at once, while the server comes up.
            rush = [asyncio.create_task(house.both_doors(*asked)) for _ in range(10)]
            await asyncio.to_thread(server.start)
            rushed = await asyncio.gather(*rush)
            async with house.drill() as crowd:
                recovered = await crowd.until_served()
    finally:
        if server.process.poll() is not None:
            await asyncio.to_thread(server.start)

    assert [(answer.verdict, answer.status) for answer in early] == [("unavailable", 503)] * 2
    assert {answer.verdict for pair in rushed for answer in pair} <= {"done", "unavailable"}
    assert log.read_text().count("not ready: database: ") == 1
    assert recovered < WITHIN


# --- Redis ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def thrifty(
    url: str, token: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """An instance that counts on Redis, and gives up on either server soon."""
    log = tmp_path_factory.mktemp("thrifty") / "log"
    async with House.on(
        url, log, token, name="thrifty", deadline=2,
        REDIS_URL=valkey.url, RATE_LIMIT_ENABLED="true", RATE_LIMIT_TIMEOUT_MS="300",
        RATE_LIMIT_READ="1000000/minute", RATE_LIMIT_WRITE="1000000/minute",
    ) as house:  # fmt: skip
        yield house


@asynccontextmanager
async def redis_drill(house: House, *, warnings: int = 1) -> AsyncIterator[Crowd]:
    """Whatever befalls Redis in the block: nobody fails for it, nobody waits long, all are counted.

    Args:
        warnings: how often the log may say that Redis does not answer.
    """
    before = len(house.log.read_text())
    async with house.drill() as crowd:
        yield crowd
        recovered = await until_redis_is(house, "ok")
        await crowd.until_served()
    print(f"Redis ok after {recovered:.2f} s")
    assert recovered < WITHIN
    assert not crowd.told(done=False)
    assert max(answer.seconds for answer in crowd.told()) < 0.3 + LATENESS
    assert all(answer.remaining is not None for answer in crowd.told())
    assert house.log.read_text()[before:].count("Redis does not answer") <= warnings


async def until_redis_is(house: House, state: str) -> float:
    """Wait until readiness says so. Returns how many seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(WITHIN):
        while await redis_of(house) != state:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def redis_of(house: House) -> str | None:
    """What readiness says of Redis."""
    ready = await house.ask("GET", "/health/ready")
    state: str | None = ready.body.get("redis")
    return state


async def test_a_restart_of_redis_is_not_noticed(thrifty: House, valkey: Valkey) -> None:
    async with redis_drill(thrifty):
        await asyncio.to_thread(valkey.restart)


async def test_a_crash_of_redis_is_counted_around(thrifty: House, valkey: Valkey) -> None:
    async with redis_drill(thrifty), down(valkey, 0.5):
        await until_redis_is(thrifty, "degraded")


async def test_a_stopped_redis_holds_nobody_for_long(thrifty: House, valkey: Valkey) -> None:
    async with redis_drill(thrifty):
        with stopped(valkey.process):
            # At the same moment: their time runs out at the same moment too.
            rush = await asyncio.gather(*(thrifty.ask("GET", "/tasks") for _ in range(20)))
            await until_redis_is(thrifty, "degraded")

    assert {answer.verdict for answer in rush} == {"done"}


async def test_a_redis_that_answers_errors_is_counted_around(
    thrifty: House, valkey: Valkey
) -> None:
    # Each is found out by three failures, and perhaps a second time by the first probe.
    async with redis_drill(thrifty, warnings=6), Redis.from_url(valkey.url) as redis:
        await redis.config_set("maxmemory", 1)
        await until_redis_is(thrifty, "degraded")
        await redis.config_set("maxmemory", 0)
        await until_redis_is(thrifty, "ok")

        await redis.replicaof("127.0.0.1", "1")
        await until_redis_is(thrifty, "degraded")
        await redis.replicaof("NO", "ONE")
        await until_redis_is(thrifty, "ok")

        await redis.config_set("requirepass", "another")
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until_redis_is(thrifty, "degraded")
        await redis.config_set("requirepass", valkey.password)


@pytest.mark.parametrize(
    "said",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"HTTP/1.1 400\r\n\r\n",
        b"",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*5\r\n:1\r\n:1\r\n+x\r\n+y\r\n+z\r\n",
    ],
)
@pytest.mark.drill
async def test_what_answers_in_place_of_redis_is_counted_around(
    thrifty: House, valkey: Valkey, said: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while (asked := await reader.read(65536)) and said:
                writer.write(said * asked.count(b"\r\n*") + said)
        writer.close()

    async with redis_drill(thrifty), down(valkey, 1):
        impostor = await asyncio.start_server(answer, "127.0.0.1", valkey.port)
        async with impostor:
            await until_redis_is(thrifty, "degraded")
            await asyncio.sleep(1.5)


async def test_both_gone_is_503_and_both_back_is_well(
    thrifty: House, server: Postgres, valkey: Valkey
) -> None:
    async with thrifty.drill() as crowd:
        async with down(server, 0.5), down(valkey, 0.5):
            await asyncio.sleep(0.2)
        recovered = await crowd.until_served()
        redis = await until_redis_is(thrifty, "ok")

    assert max(recovered, redis) < WITHIN


# --- Clients go away ------------------------------------------------------------------------


async def test_clients_that_hang_up_leave_nothing_behind(hasty: House) -> None:
    url = hasty.client.base_url
    request = (
        f"GET /tasks HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {hasty.token}\r\n\r\n"
    )

    async def hang_up() -> None:
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request.encode())
        await asyncio.sleep(random.uniform(0, 0.02))
        writer.transport.abort()

    async with hasty.drill() as crowd:
        for _ in range(15):
            await asyncio.gather(*(hang_up() for _ in range(20)))

    assert not crowd.told(done=False)


# A sibling that is cancelled before it began was never awaited, as Python tells.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_five_hundred_cancelled_requests_leave_nothing_behind(
    url: str, token: str, valkey: Valkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings_of_tests(
        database_url=f"{url}?application_name=cancelled&sslmode=disable", redis_url=valkey.url,
        rate_limit_enabled=True, rate_limit_read="1000000/minute", request_deadline_seconds=2,
        sqlalchemy_pool_size=3, sqlalchemy_max_overflow=2,
    ))  # fmt: skip
    (log := tmp_path / "log").touch()

    async def cancelled(house: House) -> None:
        asked = ("GET", "/tasks", None) if random.random() < 0.5 else _SIBLINGS
        asking = asyncio.create_task(house.ask(*asked))
        await asyncio.sleep(random.uniform(0, 0.03))
        for _ in range(random.randrange(1, 4)):
            asking.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await asking

    async with app.router.lifespan_context(app), new_client(app) as client:
        house = House("cancelled", client, token, url, log, 2, 5)
        for _ in range(20):
            await asyncio.gather(*(cancelled(house) for _ in range(25)))
        await house.assert_whole()

    # Cancelled by nobody but a server that leaves: each is told so, and nothing else is amiss.
    odd = [each for each in caplog.messages if "the server was told to leave" not in each]
    assert not odd


_SIBLINGS = ("POST", "/graphql", {"query": "{ a: tasks { totalCount } b: tasks { totalCount } }"})


# --- Connecting goes wrong half-way ---------------------------------------------------------


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
async def test_a_first_connection_that_fails_half_way_is_replaced(url: str, silent: bool) -> None:
    """After each of the server's answers in turn, those to the dialect's own questions included."""

    async def connect(after: int) -> bool:
        async with Faulty.before(url, after, silent) as faulty:
            pool = PoolSettings(size=1, max_overflow=0, timeout=30, recycle=3600, pre_ping=True)
            engine = create_engine(faulty.url, pool)
            began = time.monotonic()
            if silent:
                with suppress(Unavailable):
                    await Database(engine, 0.6).read(ONE)
                assert time.monotonic() - began < 0.6 + CANCEL_TIMEOUT + LATENESS
            if faulty.failed or not silent:
                assert await Database(engine, 5).read(ONE)
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            await engine.dispose()
            return faulty.failed

    failed = await asyncio.gather(*(connect(after) for after in range(20)))

    assert failed.count(True) > 8
    assert sorted(failed, reverse=True) == failed
    assert failed[-1] is False


ONE = Statement("SELECT 1", ())


class Faulty:
    """A proxy whose first connection fails after so many of the server's answers."""

    def __init__(self, url: str, after: int, silent: bool) -> None:
        self.url = url
        self.failed = False
        self._left = after
        self._silent = silent
        self._first = True

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str, after: int, silent: bool) -> AsyncIterator[Faulty]:
        parts = urlsplit(url)
        faulty = cls(url, after, silent)
        proxy = await asyncio.start_server(
            lambda reader, writer: faulty._serve(reader, writer, parts.port), "127.0.0.1"
        )
        port = proxy.sockets[0].getsockname()[1]
        host = parts.netloc.replace(f":{parts.port}", f":{port}")
        faulty.url = urlunsplit(parts._replace(netloc=host, query="sslmode=disable"))
        try:
            yield faulty
        finally:
            proxy.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int | None
    ) -> None:
        first, self._first = self._first, False
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(self._copy(reader, to_server))
        with suppress(ConnectionError):
            while answer := await from_server.read(65536):
                if first and self._left == 0:
                    self.failed = True
                    if self._silent:
                        await asking  # Until the client gives up.
                    break
                self._left -= first
                writer.write(answer)
        asking.cancel()
        for stream in (to_server, writer):
            stream.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while asked := await reader.read(65536):
                writer.write(asked)


# --- For longer -----------------------------------------------------------------------------


@pytest.mark.drill
@pytest.mark.timeout(180)
async def test_one_misfortune_after_another(
    patient: House, server: Postgres, valkey: Valkey
) -> None:
    async def restart() -> None:
        await asyncio.to_thread(server.restart)

    async def crash() -> None:
        async with down(server, random.uniform(0, 2)):
            pass

    async def stop() -> None:
        with stopped(server.process):
            await asyncio.sleep(random.uniform(0, 2))

    async def terminate() -> None:
        async with connected(server.url()) as sql:
            await sql.execute(_TERMINATE, "patient")

    async with patient.drill(of_each=4) as crowd:
        for misfortune in random.sample([restart, crash, stop, terminate] * 4, 16):
            await misfortune()
            await asyncio.sleep(random.uniform(0, 1.5))
        recovered = await crowd.until_served()

    assert not crowd.told("read", done=False)
    assert recovered < WITHIN


@pytest.mark.drill
@pytest.mark.timeout(120)
async def test_thirty_connections_that_all_hang_come_back(
    url: str, token: str, server: Postgres, tmp_path: Path
) -> None:
    async with House.on(
        url, tmp_path / "log", token, name="large", deadline=10, pool=(10, 20)
    ) as house:
        await house.assert_whole()  # And all thirty are connected now.
        async with house.drill() as crowd:
            with stopped(server.process):
                rush = [house.ask("GET", "/tasks") for _ in range(90)]
                answers = await asyncio.gather(*rush)
            recovered = await crowd.until_served()

    assert {answer.verdict for answer in answers} == {"unavailable"}
    assert max(answer.seconds for answer in answers) < 10 + LATENESS
    assert recovered < WITHIN


@pytest.mark.drill
@pytest.mark.timeout(120)
async def test_a_database_that_stays_away_is_503_until_it_is_back(
    patient: House, server: Postgres
) -> None:
    async with patient.drill(of_each=10) as crowd:
        async with down(server, 14):
            [first, *_] = herd = await asyncio.gather(
                *(patient.ask("GET", "/tasks") for _ in range(100))
            )
            # These will find it back, all at the same moment.
            late = [asyncio.create_task(patient.ask("GET", "/tasks")) for _ in range(100)]
        recovered = await crowd.until_served()

    assert {answer.verdict for answer in herd} == {"unavailable"}
    assert first.seconds > RETRY_FOR - 1
    assert {answer.verdict for answer in await asyncio.gather(*late)} == {"done"}
    assert recovered < WITHIN


@pytest.mark.drill
async def test_a_queue_for_one_row_is_503_and_goes_away(hasty: House, url: str) -> None:
    made = await hasty.ask("POST", "/tasks", {"title": "held"})
    path = f"/tasks/{made.body['id']}"

    async with hasty.drill():
        for _ in range(5):
            async with connected(url) as other, other.transaction():
                await other.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", made.body["id"])
                queue = await asyncio.gather(
                    *(hasty.ask("PATCH", path, {"title": f"{n}"}) for n in range(60))
                )
            assert {answer.verdict for answer in queue} == {"unavailable"}

    assert (await hasty.ask("GET", path)).body["version"] == 1
