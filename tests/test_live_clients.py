"""The clients of ``docs/live.md``, unmodified, in front of two instances behind nginx."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil
import pytest

from api import cli
from persistence.embedded.valkey import Valkey
from persistence.embedded.valkey import valkey as embedded_valkey
from tests.conftest import ROOT
from tests.neighbours.proxies import nginx
from tests.people import Person, sign_in
from tests.programs import require, run, what_is_missing
from tests.servers import served
from tests.surfaces import RestSurface

FOLDER: Final = ROOT / "tests" / "node"

CODE: Final = str(FOLDER / "live" / "code")
"""The code of the document."""

CLIENTS: Final = {
    "graphql-ws",
    "@apollo/client",
    "graphql-sse",
    "@urql/core",
    "@urql/core, by a WebSocket",
    "eventsource",
    "@microsoft/fetch-event-source",
    "rxdb",
    "gql",
}

PROGRAMS: Final = (
    ("node", "live/built/main.js"),
    (sys.executable, str(ROOT / "tests" / "python_client" / "live.py")),
)
"""What runs them."""

SECONDS: Final = 60
"""In which everything has to happen that is waited for. Clients wait up to 5 s between attempts."""

pytestmark = pytest.mark.node


class Clients:
    """Running clients, each with its copy of the tasks."""

    def __init__(self) -> None:
        self.copies: dict[str, dict[str, Any]] = {}
        self.ended: set[str] = set()
        self.exits: list[int] = []

    @asynccontextmanager
    async def running(self, *command: str, url: str, token: str) -> AsyncIterator[None]:
        """Run a program that writes a line of JSON for each change of a copy."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=FOLDER,
            env=os.environ | {"TWOFOLD_URL": url, "TWOFOLD_TOKEN": token, "PYTHONPATH": CODE},
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        reading = asyncio.create_task(self._read(process))
        try:
            yield
        finally:
            reading.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for line in process.stdout:
            state = json.loads(line)
            self.copies[state["client"]] = main_members(state["tasks"])
            if state["ended"]:
                self.ended.add(state["client"])
        self.exits.append(await process.wait())


def main_members(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Tasks by their ids, with the members that all clients ask for."""
    return {str(task["id"]): (task["title"], task["completed"], task["version"]) for task in tasks}


class Proxy:
    """nginx, which sends all requests to one instance."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._seen = 0
        (home / "instance.conf").touch()

    @property
    def locations(self) -> str:
        """The configuration of its server, as the document describes it."""
        return f"""
            access_log {self.home}/requests.log;
            include {self.home}/instance.conf;
            location / {{
                proxy_pass http://$instance;
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection upgrade;
            }}"""

    def send_to(self, instance: httpx.AsyncClient) -> None:
        """Send requests to this instance from now on."""
        address = instance.base_url.netloc.decode()
        (self.home / "instance.conf").write_text(f"set $instance {address};")
        with suppress(FileNotFoundError):
            os.kill(int((self.home / "pid").read_text()), signal.SIGHUP)

    def open_requests(self, instance: httpx.AsyncClient) -> int:
        """The number of requests that this instance is answering."""
        main = psutil.Process(int((self.home / "pid").read_text()))
        return sum(
            each.status == "ESTABLISHED" and each.raddr.port == instance.base_url.port
            for worker in main.children()
            for each in worker.net_connections("tcp")
        )

    def new_requests(self) -> list[str]:
        """The requests that have ended since the last call."""
        lines = (self.home / "requests.log").read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return new


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded_valkey() as server:
        yield server


async def until(holds: Callable[[], bool], state: Callable[[], object]) -> None:
    """Wait until something holds; after too long fail, with the state."""
    try:
        async with asyncio.timeout(SECONDS):
            while not holds():  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{state()}")


async def table(person: Person, instance: httpx.AsyncClient) -> dict[str, Any]:
    """All tasks, as ``GET /tasks`` has them."""
    headers = {"Authorization": f"Bearer {person.token}"}
    answer = await instance.get("/tasks?limit=100", headers=headers)
    tasks = answer.json()
    while "next" in answer.links:
        answer = await instance.get(answer.url.join(answer.links["next"]["url"]), headers=headers)
        tasks += answer.json()
    return main_members(tasks)


async def test_no_client_misses_a_change_and_all_stop_after_a_sign_out(
    database_url: str,
    sql: asyncpg.Connection,
    valkey: Valkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require(what_is_missing(FOLDER), "TWOFOLD_REQUIRE_NODE")
    await run(FOLDER, "live:compile")
    proxy, clients = Proxy(tmp_path), Clients()
    settings = {"REDIS_URL": valkey.url, "DRAIN_SECONDS": "0"}

    # The first never compares by itself, so that changes reach it through Redis.
    async with (
        served(database_url, **settings, LIVE_CHECK_SECONDS="60") as (first, leaving),
        served(database_url, **settings, LIVE_CHECK_SECONDS="1") as (second, _),
    ):
        proxy.send_to(first)
        ada = await sign_in(sql, RestSurface(second), "ada")
        plants, dishes = [await ada.create_task(title) for title in ("plants", "dishes")]

        async def until_equal() -> None:
            tasks = await table(ada, second)
            await until(
                lambda: clients.copies == dict.fromkeys(CLIENTS, tasks),
                lambda: (
                    clients.exits
                    or {
                        name: clients.copies.get(name, {}).items() ^ tasks.items()
                        for name in CLIENTS
                    }
                ),
            )

        async def until_following(instance: httpx.AsyncClient) -> None:
            # And until none has requests beside: RxDB reads once more when its stream begins.
            async with asyncio.timeout(SECONDS):
                while (  # noqa: ASYNC110  # no event
                    proxy.new_requests() or proxy.open_requests(instance) != len(CLIENTS)
                ):
                    await asyncio.sleep(1)

        async with nginx(tmp_path, proxy.locations) as through, AsyncExitStack() as programs:
            for command in PROGRAMS:
                program = clients.running(*command, url=str(through.base_url), token=ada.token)
                await programs.enter_async_context(program)
            await until_equal()
            await until_following(first)

            # Made through the other instance, and nobody asks for them.
            await ada.change_task(plants.id, completed=True)
            await ada.delete_task(dishes.id)
            await ada.create_task("letters")
            await until_equal()
            assert proxy.new_requests() == []

            # While no client has a connection.
            leaving.terminate()
            await leaving.wait()
            await ada.create_tasks(*({"title": f"task {number}"} for number in range(100)))
            await ada.change_task(plants.id, title="water the plants")
            letters = await ada.create_task("more letters")
            await ada.delete_task(letters.id)
            proxy.send_to(second)
            await until_equal()
            await until_following(second)

            await ada.delete_task(plants.id)
            await until_equal()
            assert proxy.new_requests() == []

            # A backup is restored in which a task is missing.
            await sql.execute("""
                BEGIN; SET LOCAL session_replication_role = replica;
                DELETE FROM tasks WHERE title = 'task 7'; COMMIT""")
            monkeypatch.setenv("DATABASE_URL", database_url)
            assert await asyncio.to_thread(cli.main, ["feeds", "reset"]) == 0
            await ada.create_task("after the backup")
            await until_equal()

            await until_following(second)
            await sql.execute("DELETE FROM user_sessions")
            await until(lambda: clients.ended == CLIENTS, lambda: clients.ended)
            assert len(proxy.new_requests()) <= 2 * len(CLIENTS)
            await asyncio.sleep(6)
            assert proxy.new_requests() == []
