"""Streams while everything fails, while nobody reads, and after a sign-out."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import psutil
import pytest

from persistence.embedded.processes import free_port
from persistence.embedded.valkey import Valkey
from tests.control import GIVE_UP, Control
from tests.drills.service import connected, new_token
from tests.feed_workload import table
from tests.followers import OPENINGS, PROTOCOLS, Follower
from tests.people import Person, token_hash
from tests.pgbouncer import PgBouncer, running
from tests.servers import COMMAND, served
from tests.surfaces import ApiError, GraphQLSurface, RestSurface, Surface

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

PEOPLE: Final = ("ada", "bob", "eve")

OF_EACH: Final = 2
"""Streams of each person by each protocol."""

RESUMED: Final = 10.0
"""Seconds after a failure in which all streams have what changed since."""

GONE: Final = 11.0
"""Seconds after a sign-out in which its streams are gone."""


class Instance:
    """An instance that can be stopped and started again, on the same port."""

    def __init__(self, url: str, redis_url: str, log: Path) -> None:
        self.port, self.log = free_port(), log
        self.client: httpx.AsyncClient
        self.process: asyncio.subprocess.Process
        self._url, self._redis_url = url, redis_url
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start, and wait until it answers."""
        shell = ("sh", "-c", 'exec "$@" 2>>"$LOG"', "sh", *COMMAND)
        one = served(
            self._url, *shell, PORT=str(self.port), REDIS_URL=self._redis_url,
            LOG=str(self.log), DRAIN_SECONDS="1",
        )  # fmt: skip
        self.client, self.process = await self._stack.enter_async_context(one)

    async def stop(self, number: Signals = SIGTERM) -> None:
        """Stop, and wait for its end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()
        await self._stack.aclose()

    def clients(self) -> set[int]:
        """The ports of the clients that are connected to it."""
        connections = psutil.Process(self.process.pid).net_connections("tcp4")
        return {each.raddr.port for each in connections if each.raddr}

    def memory(self) -> int:
        """The bytes that it has in memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@asynccontextmanager
async def instances(
    number: int, url: str, valkey: Valkey, folder: Path
) -> AsyncIterator[list[Instance]]:
    """So many instances. Afterwards none may have logged an unexpected failure."""
    fleet = [Instance(url, valkey.url, folder / f"log {each}") for each in range(number)]
    for each in fleet:
        await each.start()
    try:
        yield fleet
    finally:
        for each in fleet:
            await each.stop()
    for each in fleet:
        lines = each.log.read_text().splitlines()
        assert [line for line in lines if "exception" in line or "Traceback" in line] == []


@asynccontextmanager
async def following(followers: list[Follower]) -> AsyncIterator[None]:
    """They follow during the block. Afterwards none may have seen anything out of order."""
    tasks = [asyncio.create_task(each.run()) for each in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [each for each in results if isinstance(each, Exception)]
    assert not failures, failures
    assert not [fault for each in followers for fault in each.faults]


async def until(is_true: Callable[[], bool]) -> float:
    """Wait until something is true; return the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(GIVE_UP):
        while not is_true():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
    return time.monotonic() - began


class Chaos:
    """People with streams, who write meanwhile, and whose instances and servers fail.

    Attributes:
        changes: how many changes of tasks were acknowledged.
        resumed: for each failure, the seconds until all streams had what changed after it.
    """

    def __init__(
        self, url: str, valkey: Valkey, fleet: list[Instance], pooler: PgBouncer | None = None
    ) -> None:
        self.changes = 0
        self.resumed: list[tuple[str, float]] = []
        self.people: dict[str, Person] = {}
        self.followers: dict[str, list[Follower]] = {}
        self._url, self._valkey, self._fleet, self._pooler = url, valkey, fleet, pooler
        self._is_over = False

    async def sign_in(self, followers_of_each: int) -> list[Follower]:
        """Everybody signs in, and opens so many streams by each protocol."""
        ports = [each.port for each in self._fleet]
        surface = RestSurface(self._fleet[0].client)
        for name in PEOPLE:
            token = await new_token(self._url, name)
            self.people[name] = Person(name, token, surface)
            start = (await self.people[name].list_tasks()).sync_token
            self.followers[name] = [
                Follower(protocol, token, ports, start)
                for protocol in PROTOCOLS
                for _ in range(followers_of_each)
            ]
        return [each for some in self.followers.values() for each in some]

    # --- Writers ------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self, pause: float) -> AsyncIterator[None]:
        """Everybody writes during the block: through both APIs, and somebody in SQL."""
        async with asyncio.TaskGroup() as group:
            for name in PEOPLE:
                group.create_task(self._write(name, pause))
                group.create_task(self._write_in_sql(name, pause))
            try:
                yield
            finally:
                self._is_over = True

    async def _write(self, name: str, pause: float) -> None:
        kinds = (self._create, self._change, self._change_many, self._delete, self._restore)
        token = self.people[name].token
        while not self._is_over:
            client = random.choice(self._fleet).client
            surface: Surface = random.choice((RestSurface, GraphQLSurface))(client)
            person = Person(name, token, surface)
            # RuntimeError: the client of an instance that was stopped meanwhile.
            with suppress(httpx.TransportError, RuntimeError):
                try:
                    self.changes += await random.choice(kinds)(person)
                except ApiError as error:
                    if error.problem["type"] not in _EXPECTED:
                        raise
            await asyncio.sleep(pause)

    def _known(self, person: Person, number: int) -> list[int]:
        tasks = list(random.choice(self.followers[person.user_id]).tasks)
        return random.sample(tasks, min(number, len(tasks)))

    async def _create(self, person: Person) -> int:
        if len(self._known(person, 200)) == 200:
            return await self._change_many(person)
        return len(await person.create_tasks(*({"title": f"{n}"} for n in range(20))))

    async def _change(self, person: Person) -> int:
        for task_id in self._known(person, 1):
            await person.change_task(task_id, title=str(random.random()))
        return 1

    async def _change_many(self, person: Person) -> int:
        if not (ids := self._known(person, 20)):
            return 0
        await person.change_tasks(ids, completed=random.random() < 0.5)
        return len(ids)

    async def _delete(self, person: Person) -> int:
        for task_id in self._known(person, 1):
            await person.delete_task(task_id)
        return 1

    async def _restore(self, person: Person) -> int:
        trash = (await person.list_trash(limit=1)).tasks
        for task in trash:
            await person.restore_task(task.id)
        return len(trash)

    async def _write_in_sql(self, name: str, pause: float) -> None:
        while not self._is_over:
            with suppress(OSError, *_OF_ASYNCPG):
                async with connected(self._url) as sql:
                    while not self._is_over:
                        title = str(random.random())
                        done = await sql.execute(_CHANGE, name, title)
                        self.changes += int(done.split()[1])
                        await asyncio.sleep(pause)

    # --- Failures -----------------------------------------------------------------------------

    async def fail(self, kind: str, control: Control) -> None:
        """Let something fail, and wait until all streams have what changed after it."""
        broken = await getattr(self, f"_{kind}")()
        began = time.monotonic()
        for name in PEOPLE:
            await self._require_resumed(name)
        seconds = time.monotonic() - began
        self.resumed.append((kind, seconds))
        if broken:
            await broken.start()
        assert seconds < control.bound(RESUMED), self.resumed

    async def _require_resumed(self, name: str) -> None:
        task_id = await self._create_at_last(name)
        await until(lambda: all(task_id in each.versions for each in self.followers[name]))

    async def _create_at_last(self, name: str) -> int:
        async with asyncio.timeout(GIVE_UP):
            while True:
                surface = RestSurface(random.choice(self._fleet).client)
                with suppress(httpx.TransportError, ApiError, RuntimeError):
                    task = await surface.create_task(self.people[name].token, {"title": "after"})
                    self.changes += 1
                    return int(task.id)
                await asyncio.sleep(0.05)

    async def _kill(self) -> Instance:
        instance = random.choice(self._fleet)
        await instance.stop(SIGKILL)
        return instance

    async def _roll(self) -> None:
        for instance in self._fleet:
            await instance.stop()
            await instance.start()

    async def _restart_redis(self) -> None:
        await asyncio.to_thread(self._valkey.restart)

    async def _restart_pgbouncer(self) -> None:
        assert self._pooler
        await asyncio.to_thread(self._pooler.restart)

    async def _cut_connections(self) -> None:
        async with connected(self._url) as sql:
            for _ in range(10):
                await sql.execute(_TERMINATE)
                await asyncio.sleep(0.1)

    # --- The end ------------------------------------------------------------------------------

    async def differences(self, control: Control) -> list[str]:
        """Whose replicas are not the table, and of whom ``GET /tasks`` is not."""
        differing = []
        async with connected(self._url) as sql:
            for name in PEOPLE:
                expected = await table(sql, name)
                with suppress(TimeoutError):
                    async with asyncio.timeout(control.bound(GONE)):
                        while any(  # noqa: ASYNC110  # no event
                            each.tasks != expected for each in self.followers[name]
                        ):
                            await asyncio.sleep(0.05)
                differing += [
                    f"{each.protocol} of {name}"
                    for each in self.followers[name]
                    if each.tasks != expected
                ]
                if await self._listed(name) != expected:
                    differing.append(f"the list of {name}")
        return differing

    async def _listed(self, name: str) -> dict[int, tuple[str, int]]:
        person = Person(name, self.people[name].token, RestSurface(self._fleet[0].client))
        listed: dict[int, tuple[str, int]] = {}
        cursor = None
        while True:
            page = await person.list_tasks(limit=1000, cursor=cursor)
            listed |= {int(task.id): (task.title, task.version) for task in page.tasks}
            if not (cursor := page.next_cursor):
                return listed


# When its connection ends just now, asyncpg may raise any of them.
_OF_ASYNCPG: Final = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
)  # fmt: skip

_EXPECTED: Final = ("not_found_error", "service_unavailable")

# All tasks are locked before the first trigger takes the person's number.
_CHANGE: Final = """
WITH locked AS (
    SELECT id FROM tasks WHERE user_id = $1 AND deleted_at IS NULL ORDER BY id LIMIT 100 FOR UPDATE
)
UPDATE tasks SET version = version + 1, title = $2
WHERE id = ANY(CAST((SELECT array_agg(id) FROM locked) AS bigint[]))
"""

_TERMINATE: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

KINDS: Final = ("kill", "restart_redis", "restart_pgbouncer", "cut_connections", "roll")


async def no_change_is_missed(
    number: int, pause: float, size: int, url: str, valkey: Valkey, folder: Path
) -> None:
    """Require it of at least so many changes, and at least one failure of each kind.

    Args:
        size: the number of instances. They reach the database through PgBouncer.
    """
    with running(url, servers=20) as pooler:
        parts = urlsplit(url)
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{pooler.port}"
        pooled = urlunsplit(parts._replace(netloc=netloc, query="pgbouncer=true"))
        async with instances(size, pooled, valkey, folder) as fleet:
            chaos = Chaos(url, valkey, fleet, pooler)
            followers = await chaos.sign_in(OF_EACH)
            async with Control.running() as control, following(followers):
                async with chaos.writing(pause):
                    for kind in KINDS:
                        await chaos.fail(kind, control)
                    while chaos.changes < number:
                        await chaos.fail(random.choice(KINDS), control)
                differences = await chaos.differences(control)

    print(f"{chaos.changes} changes, {sum(each.events for each in followers)} events")
    print(f"{len(followers)} clients, {sum(each.attempts for each in followers)} connections")
    for kind in KINDS:
        seconds = [took for name, took in chaos.resumed if name == kind]
        print(f"{kind}: {len(seconds)} times, resumed after {max(seconds):.1f} s at most")
    assert differences == []
    assert chaos.changes >= number


async def test_no_change_is_missed_whatever_fails(url: str, valkey: Valkey, tmp_path: Path) -> None:
    await no_change_is_missed(2000, 0.1, 2, url, valkey, tmp_path)


async def test_of_ten_times_ten_thousand_changes_none_is_missed(
    url: str, valkey: Valkey, tmp_path: Path
) -> None:
    await no_change_is_missed(100_000, 0.1, 3, url, valkey, tmp_path)


async def test_after_a_sign_out_nothing_later_is_sent_and_its_streams_are_gone(
    url: str, valkey: Valkey, tmp_path: Path
) -> None:
    async with instances(1, url, valkey, tmp_path) as fleet, connected(url) as sql:
        chaos = Chaos(url, valkey, fleet)
        others = await chaos.sign_in(OF_EACH)
        token = await new_token(url, "leaver")
        staying = [
            Follower(each, await new_token(url, "leaver"), [fleet[0].port]) for each in PROTOCOLS
        ]
        leaving = [Follower(each, token, [fleet[0].port]) for each in PROTOCOLS]
        async with Control.running() as control, following(others + leaving + staying):
            await until(lambda: all(each.events for each in leaving + staying))
            async with chaos.writing(0.1):
                # No hint tells the instance of these: only the check finds them, and the sign-out.
                for number in range(100):
                    await sql.execute(_CREATE, f"before {number}")
                await until(lambda: all(len(each.tasks) == 100 for each in leaving))
                await sql.execute(_SIGN_OUT, token_hash(token))
                began = time.monotonic()
                while not all(each.signed_out_at for each in leaving):
                    await sql.execute(_CREATE, "later")
                    await asyncio.sleep(0.05)
                seconds = max(each.signed_out_at or 0 for each in leaving) - began
            await until(lambda: all(len(each.tasks) > 100 for each in staying))

    print(f"gone after {seconds:.1f} s")
    assert [len(each.tasks) for each in leaving] == [100, 100]
    assert seconds < control.bound(GONE)


_CREATE: Final = "INSERT INTO tasks (user_id, title) VALUES ('leaver', $1)"
_SIGN_OUT: Final = "UPDATE user_sessions SET revoked = true WHERE token_hash = $1"


STUCK: Final = 4
"""Streams by each protocol that read nothing."""

CUT: Final = 40.0
"""Seconds from full buffers until they are gone: 20, and those in which a WebSocket closes."""

BOUND: Final = 2 * 2**20
"""Bytes of the instance's memory for each of them. An event here has 200 KiB."""


async def test_a_client_that_reads_nothing_costs_bounded_memory_and_is_cut(
    url: str, valkey: Valkey, tmp_path: Path
) -> None:
    async with instances(1, url, valkey, tmp_path) as [instance]:
        token = await new_token(url, "writer")
        writer = Person("writer", token, RestSurface(instance.client))
        ids = [each.id for each in await writer.create_tasks(*[{"title": "long"}] * 100)]
        readers = [Follower(each, token, [instance.port]) for each in PROTOCOLS]
        async with Control.running() as control, following(readers):
            await until(lambda: all(each.events for each in readers))
            # What these changes cost without the others.
            texts = ("\u00e4" * 1000, "\u00f6" * 1000)
            began = time.monotonic()
            for number in range(100):
                await writer.change_tasks(ids, description=texts[number % 2])
            # So many fill any buffers.
            filling = time.monotonic() - began
            before = most = instance.memory()
            began = time.monotonic()
            with ExitStack() as stack:
                ports = {
                    stack.enter_context(stuck(protocol, instance.port, token))
                    for protocol in (*PROTOCOLS,) * STUCK
                }
                await until(lambda: len(ports & instance.clients()) == len(ports))
                while ports & instance.clients():
                    for text in texts:
                        await writer.change_tasks(ids, description=text)
                    most = max(most, instance.memory())
            seconds = time.monotonic() - began
            version = (await writer.get_task(ids[-1])).version
            await until(lambda: all(each.versions.get(ids[-1]) == version for each in readers))

    each_cost = (most - before) / len(ports)
    print(f"{each_cost / 2**20:.2f} MiB each, cut after {seconds:.0f} s, {version} changes")
    assert each_cost < BOUND
    assert seconds < control.bound(filling + CUT)


@contextmanager
def stuck(protocol: str, port: int, bearer: str) -> Iterator[int]:
    """A client that begins a stream and reads nothing, not even the response; its port."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(OPENINGS[protocol](bearer))
        yield client.getsockname()[1]
