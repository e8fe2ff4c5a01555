"""The service as it runs for real, and the failures of its servers."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil

from persistence.embedded.postgres import Postgres
from tests.control import GIVE_UP
from tests.drills.workload import Outcome, Workload, send
from tests.operations import Api, Operation
from tests.people import sign_in
from tests.servers import COMMAND, served
from tests.surfaces import SURFACES, Request, RestSurface

POOL: Final = 3
OVERFLOW: Final = 2


@dataclass(slots=True)
class Service:
    """One instance of the service, its log, and the token of a user.

    Attributes:
        name: of its connections in ``pg_stat_activity``.
        deadline: of its requests, in seconds.
        connections: the most that it may have.
    """

    name: str
    client: httpx.AsyncClient
    token: str
    database_url: str
    log: Path
    deadline: float
    connections: int

    @classmethod
    @asynccontextmanager
    async def on(
        cls,
        database_url: str,
        log: Path,
        token: str,
        *,
        name: str,
        deadline: float,
        pool: tuple[int, int] = (POOL, OVERFLOW),
        **environment: str,
    ) -> AsyncIterator[Service]:
        """Serve from a database. The log lines of the service go to ``log``."""
        size, overflow = pool
        url = f"{database_url}?application_name={name}"
        environment = {
            "REQUEST_DEADLINE_SECONDS": str(deadline),
            "SQLALCHEMY_POOL_SIZE": str(size),
            "SQLALCHEMY_MAX_OVERFLOW": str(overflow),
            "LOG": str(log),
            **environment,
        }
        shell = ("sh", "-c", 'exec "$@" 2>"$LOG"', "sh", *COMMAND)
        async with (
            served(url, *shell, **environment) as (one, _),
            httpx.AsyncClient(base_url=one.base_url, transport=OneShot()) as client,
        ):
            yield cls(name, client, token, database_url, log, deadline, size + overflow)

    @asynccontextmanager
    async def drill(self, *, of_each: int = 2) -> AsyncIterator[Workload]:
        """A workload during the block; see ``Workload.at``.

        Afterwards every response must have been proper, what was acknowledged stored, every failure
        logged, and the pool whole.
        """
        before = len(self.log.read_text())
        # One for each worker: a person's requests may wait for their earlier responses, which are
        # late while the database is away, and that wait is not in the deadline.
        people = [f"worker {number}" for number in range(4 * of_each)]
        tokens = [await new_token(self.database_url, name) for name in people]
        async with Workload.at(self.client, tokens, of_each=of_each) as workload:
            yield workload
        print(workload.summary())
        workload.assert_proper(self.deadline)
        async with connected(self.database_url) as sql:
            await workload.ledger.assert_stored(sql)
        assert_logged(self.log.read_text()[before:], workload.select(ok=False))
        await self.assert_whole()

    async def get(self, path: str) -> Outcome:
        """Get a path once."""
        return await self.send(Request("GET", path))

    async def send(self, request: Request, token: str = "") -> Outcome:
        """Send a request once, as the user or as whose token it is."""
        return await send(self.client, token or self.token, request)

    async def do(self, api: Api, operation: Operation, token: str = "") -> Outcome:
        """Do an operation once."""
        return await self.send(SURFACES[api].encode(operation), token)

    async def do_both(self, operation: Operation, token: str = "") -> list[Outcome]:
        """Do an operation through both APIs at the same time."""
        return await asyncio.gather(*(self.do(api, operation, token) for api in Api))

    async def assert_whole(self) -> None:
        """Require that the pool can use all its connections, has no others, and they are idle."""
        async with connected(self.database_url) as sql:
            for _ in range(3):
                held, backends = await self._held_at_once(sql)
                if held == self.connections:
                    break
            assert (held, backends) == (self.connections, self.connections)
            async with asyncio.timeout(GIVE_UP):
                while await sql.fetchval(_BUSY, self.name):  # noqa: ASYNC110  # no event
                    await asyncio.sleep(0.02)

    async def _held_at_once(self, sql: asyncpg.Connection) -> tuple[int, int]:
        """How many connections can wait for a lock together, and how many there are then.

        A connection that was never released to the pool is missing among the former. Each request
        is another person's, because no person may hold all connections.
        """
        held = backends = 0
        names = [f"holder {number}" for number in range(self.connections + 3)]
        tokens = [await new_token(self.database_url, name) for name in names]
        request = Request("GET", "/tasks?limit=1")
        async with locked_tasks(self.database_url):
            requests = [asyncio.create_task(send(self.client, token, request)) for token in tokens]
            until = time.monotonic() + min(self.deadline, 3.0)
            while held < self.connections and time.monotonic() < until:
                held, backends = await sql.fetchrow(_WAITING, self.name)
                await asyncio.sleep(0.01)
        for response in await asyncio.gather(*requests):
            assert response.verdict in ("ok", "unavailable"), response
        return held, backends


_WAITING: Final = """
SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'), count(*)
FROM pg_stat_activity WHERE application_name = $1
"""

_BUSY: Final = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'
"""


class OneShot(httpx.AsyncBaseTransport):
    """A connection for each request. httpx's own pool is slow where hundreds of requests wait."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and read until the server closes."""
        head = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        headers = [pair for pair in request.headers.raw if pair[0].lower() != b"connection"]
        head += [b"%s: %s" % pair for pair in (*headers, (b"Connection", b"close"))]
        reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
        try:
            writer.write(b"\r\n".join([*head, b"", await request.aread()]))
            async with asyncio.timeout(GIVE_UP):
                response = await reader.read()
        except OSError as error:
            raise httpx.ReadError(repr(error)) from error
        finally:
            writer.close()
        return _response(response)


def _response(response: bytes) -> httpx.Response:
    head, separator, body = response.partition(b"\r\n\r\n")
    if not separator:
        raise httpx.RemoteProtocolError(f"not a response: {response[:100]!r}")
    status, *lines = head.split(b"\r\n")
    headers = [tuple(line.split(b": ", 1)) for line in lines]
    return httpx.Response(int(status.split(b" ")[1]), headers=headers, content=body)  # type: ignore[arg-type]  # pairs


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def locked_tasks(url: str) -> AsyncIterator[None]:
    """The table of tasks is locked: every other statement on it waits."""
    async with connected(url) as other, other.transaction():
        await other.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        yield


async def new_token(url: str, name: str) -> str:
    """The token of a new session."""
    async with connected(url) as sql, httpx.AsyncClient() as client:
        return (await sign_in(sql, RestSurface(client), name)).token


def assert_logged(log: str, failed: list[Outcome]) -> None:
    """Require one line of the log for each request that failed, and no traceback."""
    lines = [json.loads(line) for line in log.splitlines()]
    odd = [line for line in lines if "reason" not in line and line["level"] != "warning"]
    assert not odd, odd[:10]
    assert not [line for line in lines if "exception" in line]
    for response in failed:
        mentioned = [line for line in lines if line.get("request_id") == response.request_id]
        assert len(mentioned) == (response.failures > 0), (response, mentioned)
    others = [line for line in lines if "request_id" not in line]
    assert len(others) <= 5, others


# --- Failures of a server -------------------------------------------------------------------


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A server and its children are suspended: they neither answer nor end."""
    main = psutil.Process(process.pid)
    main.suspend()
    children = main.children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.suspend()
    try:
        yield
    finally:
        for each in (*children, main):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


@asynccontextmanager
async def down(server: Any, seconds: float) -> AsyncIterator[None]:
    """Kill a server as by a crash. Start it after the block, and not before so many seconds."""
    began = time.monotonic()
    await asyncio.to_thread(server.kill)
    try:
        yield
        await asyncio.sleep(began + seconds - time.monotonic())
    finally:
        await asyncio.to_thread(server.start)


@asynccontextmanager
async def full_disk(server: Postgres, url: str) -> AsyncIterator[str]:
    """The tasks are on a full disk: ``"tmpfs"`` where we may mount one, else ``"trigger"``."""
    with ExitStack() as stack, suppress(OSError, subprocess.CalledProcessError):
        place = stack.enter_context(_tmpfs(server))
        async with connected(url) as sql:
            await sql.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            await sql.execute("ALTER TABLE tasks SET TABLESPACE small")
        ballast = place / "ballast"
        try:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            yield "tmpfs"
        finally:
            ballast.unlink()
            async with connected(url) as sql:
                await sql.execute("ALTER TABLE tasks SET TABLESPACE pg_default")
                await sql.execute("CHECKPOINT")
                await sql.execute("DROP TABLESPACE small")
        return
    async with connected(url) as sql:
        await sql.execute(_FULL)
        try:
            yield "trigger"
        finally:
            await sql.execute("DROP TRIGGER full_disk ON tasks")


@contextmanager
def _tmpfs(server: Postgres) -> Iterator[Path]:
    place = server.home / "small"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place],
            check=True, capture_output=True,
        )  # fmt: skip
        try:
            if server.account:
                shutil.chown(place, server.account.uid, server.account.gid)
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
    finally:
        place.rmdir()


_FULL: Final = """
CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON tasks EXECUTE FUNCTION full_disk();
"""
