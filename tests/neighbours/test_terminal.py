"""Ctrl-C in a real terminal: the commands stop, and print no traceback, however often it comes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import sys
import termios
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import httpx
import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.processes import free_port
from persistence.migrations import MIGRATION_LOCK
from tests.conftest import HASH_SECRET, ROOT, new_database
from tests.control import GIVE_UP
from tests.drills.service import locked_tasks
from tests.people import Person, sign_in
from tests.servers import until_listening
from tests.surfaces import RestSurface

CTRL_C: Final = b"\x03"

commands = pytest.mark.parametrize(
    "command",
    [
        pytest.param(("serve",), id="serve"),
        pytest.param(("serve", "--workers", "2"), id="serve, workers"),
        pytest.param(("dev",), id="dev"),
    ],
)


class Terminal:
    """A terminal in which one command runs, and what it shows."""

    def __init__(self, keyboard: int, process: asyncio.subprocess.Process) -> None:
        self.screen = ""
        self.process = process
        self._keyboard = keyboard
        os.set_blocking(keyboard, False)
        asyncio.get_running_loop().add_reader(keyboard, self._read)

    def press_ctrl_c(self) -> None:
        """Interrupt every process of the terminal, as the kernel does."""
        os.write(self._keyboard, CTRL_C)

    async def ends(self) -> int:
        """Wait until the command has ended. Returns its exit code."""
        async with asyncio.timeout(GIVE_UP):
            return await self.process.wait()

    async def ends_by_ctrl_c(self) -> int:
        """Press Ctrl-C again and again until the command has ended. Returns its exit code."""
        ending = asyncio.create_task(self.ends())
        while not ending.done():
            self.press_ctrl_c()
            await asyncio.wait({ending}, timeout=0.2)
        return await ending

    def close(self) -> None:
        """Read what is left, and close the terminal."""
        asyncio.get_running_loop().remove_reader(self._keyboard)
        self._read()
        os.close(self._keyboard)

    def _read(self) -> None:
        try:
            while output := os.read(self._keyboard, 65536):
                self.screen += output.decode()
        except OSError:
            # Nothing at the moment; or, if no process has the terminal any more, nothing ever.
            if self.process.returncode is not None:
                asyncio.get_running_loop().remove_reader(self._keyboard)


@asynccontextmanager
async def terminal(url: str, *command: str, **environment: str) -> AsyncIterator[Terminal]:
    """A command of `twofold` in a terminal of its own. It is killed after the block."""
    keyboard, screen = pty.openpty()
    process = await create_subprocess_exec(
        sys.executable, "-m", "api.cli", *command,
        cwd=ROOT, stdin=screen, stdout=screen, stderr=screen, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={
            **os.environ, "DATABASE_URL": url, "ENVIRONMENT": "testing",
            "SESSION_HASH_SECRET": HASH_SECRET, "RATE_LIMIT_ENABLED": "false", **environment,
        },
    )  # fmt: skip
    os.close(screen)
    opened = Terminal(keyboard, process)
    try:
        yield opened
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        opened.close()


@commands
async def test_ctrl_c_stops_a_server(command: tuple[str, ...], database_url: str) -> None:
    port = free_port()
    async with terminal(database_url, *command, PORT=str(port)) as shell:
        await until_listening(port)
        shell.press_ctrl_c()
        code = await shell.ends()

    assert code == 0
    assert "Traceback" not in shell.screen


@commands
async def test_further_ctrl_c_end_what_still_runs_without_a_traceback(
    command: tuple[str, ...], database_url: str, sql: asyncpg.Connection
) -> None:
    port = free_port()
    async with terminal(database_url, *command, PORT=str(port)) as shell:
        await until_listening(port)
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=GIVE_UP) as client:
            ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
            async with locked_tasks(database_url):
                status = asyncio.create_task(create(client, ada))
                await until_waiting_for_a_lock(sql)
                # The first one waits for the request, which waits for the lock.
                code = await shell.ends_by_ctrl_c()
            ended = await status

    assert code == 0
    assert ended == 503
    assert "Traceback" not in shell.screen


_SLOW_TO_END: Final = """
import asyncio, sys, uvicorn
from api.server.server import Server

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    try:
        print("waits", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("ends", flush=True)
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body"})

Server(uvicorn.Config(app, port=int(sys.argv[1]), log_level="critical", lifespan="off")).run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_that_comes_last_of_all_leaves_requests_their_responses(
    number: signal.Signals,
) -> None:
    """As it happens while Ctrl-C is pressed a third time, when the event loop ends already."""
    port = free_port()
    process = await create_subprocess_exec(
        sys.executable, "-c", _SLOW_TO_END, str(port), stdout=PIPE, stderr=PIPE, cwd=ROOT
    )
    assert process.stdout
    await until_listening(port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=GIVE_UP) as client:
        response = asyncio.create_task(client.get("/"))
        assert await process.stdout.readline() == b"waits\n"
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert await process.stdout.readline() == b"ends\n"
        process.send_signal(number)
        _, errors = await process.communicate()

        assert (await response).status_code == 503
        assert errors == b""
        assert process.returncode == 0


async def create(client: httpx.AsyncClient, ada: Person) -> int:
    """Create a task. Returns the status of the response."""
    headers = {"Authorization": f"Bearer {ada.token}"}
    response = await client.post("/tasks", json={"title": "never"}, headers=headers)
    return response.status_code


async def until_waiting_for_a_lock(sql: asyncpg.Connection) -> None:
    """Wait until another connection to the database waits for a lock."""
    waiting = """
        SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
    """
    async with asyncio.timeout(GIVE_UP):
        while not await sql.fetchval(waiting):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("times", [1, 2, 20])
async def test_ctrl_c_stops_a_migration_without_a_traceback(times: int, postgres: Postgres) -> None:
    url = await new_database(postgres, f"interrupted_{times}")
    other = await asyncpg.connect(url)
    await other.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    async with terminal(url, "migrate") as shell:
        await until_waiting_for_a_lock(other)
        for _ in range(times):
            shell.press_ctrl_c()
        code = await shell.ends()
    await other.close()

    assert code == 130
    assert "Traceback" not in shell.screen


@pytest.mark.slow
@commands
@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
async def test_ctrl_c_while_a_command_starts_shows_no_traceback(
    command: tuple[str, ...], seconds: float, database_url: str
) -> None:
    async with terminal(database_url, *command, PORT=str(free_port())) as shell:
        # Any moment will do: there is no traceback at any.
        await asyncio.sleep(seconds)
        for _ in range(5):
            shell.press_ctrl_c()
            await asyncio.sleep(0.02)
        await shell.ends()

    assert "Traceback" not in shell.screen
