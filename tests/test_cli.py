"""The command `twofold`, as a person at a terminal meets it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api import cli
from api.commands.serve import server_options
from api.dotenv import DotenvVariables
from api.server.listener import AddressError, listening
from api.settings import SettingsError, load
from persistence.embedded.postgres import postgres
from tests.control import GIVE_UP
from tests.servers import served
from tests.shells import hostile_environment, unreadable_home
from tests.test_embedded import family, linux, lives, wait_until_gone

SECRET = "a secret that nobody may see, ever"
NOWHERE = f"postgresql://ada:{SECRET.split()[-1]}@127.0.0.1:1/tasks"


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the person who runs the tests, neither in variables nor in `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parent.parent))
    for name in ("DATABASE_URL", "SESSION_HASH_SECRET", "BETTER_AUTH_SECRETS", "CORS_ORIGINS",
                 "ENVIRONMENT", "SESSION_STORE", "SESSION_TABLE", "HOST", "PORT", "LOG_LEVEL",
                 "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "DEMO_TOKEN"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    # What a command itself has put there goes with the test.
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings with which everything starts; the database is away."""
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    monkeypatch.setenv("SESSION_HASH_SECRET", SECRET)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"twofold {version('twofold')}\n"


# --- check --------------------------------------------------------------------------------


@pytest.mark.usefixtures("usable")
def test_check_shows_the_settings_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["check"])

    said = capsys.readouterr()
    assert code == 0
    assert re.search(r"^ENVIRONMENT +development$", said.out, re.MULTILINE)
    assert re.search(r"^SESSION_HASH_SECRET +\*{8}$", said.out, re.MULTILINE)
    assert SECRET not in said.out + said.err
    assert "ever" not in said.out + said.err


def test_check_names_everything_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_HASH_SECRET", "short-and-secret")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")

    code = cli.main(["check"])

    said = capsys.readouterr()
    assert code == 2
    assert re.search(r"^LOG_LEVEL +LOUD$", said.out, re.MULTILINE)
    assert "DATABASE_URL: " in said.err
    assert "SESSION_HASH_SECRET: " in said.err
    assert "LOG_LEVEL: " in said.err
    assert "short-and-secret" not in said.out + said.err


def test_check_reads_the_env_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text(f"DATABASE_URL={NOWHERE}\nSESSION_HASH_SECRET={SECRET}\n")

    assert cli.main(["check"]) == 0


@pytest.mark.usefixtures("usable")
def test_check_shows_and_checks_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = cli.main(["check"]), capsys.readouterr().out
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    wrong = cli.main(["check"]), capsys.readouterr().err

    assert (right[0], wrong[0]) == (0, 2)
    assert re.search(r"^WEB_CONCURRENCY +1$", right[1], re.MULTILINE)
    assert re.search(r"^SQLALCHEMY_POOL_SIZE +3$", right[1], re.MULTILINE)
    assert wrong[1] == "WEB_CONCURRENCY: 'many' is not a whole number.\n"


@pytest.mark.usefixtures("usable")
def test_check_knows_a_slip_from_somebody_elses_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slips = {"RATE_LIMIT_REED": "RATE_LIMIT_READ", "DATABASE_URI": "DATABASE_URL",
             "GRAPHQL_MAX_PAGESIZE": "GRAPHQL_MAX_PAGE_SIZE"}  # fmt: skip
    for name in (*slips, "BETTER_AUTH_SECRET", "BETTER_AUTH_URL", "DATABASE_URL_UNPOOLED",
                 "SESSION_SECRET", "REDIS_HOST", "rate_limit_read", "PORTT"):  # fmt: skip
        monkeypatch.setenv(name, "7/hour")
    Path(".env").write_text("ENVIROMENT=production\nOTHERS=1\nBETTER_AUTH_SECRET=theirs\n")

    code = cli.main(["check"])

    said = capsys.readouterr().out
    assert code == 0
    assert re.findall(r"^Note: (\S+) is not a setting; (\S+) is\.$", said, re.MULTILINE) == sorted(
        (slips | {"ENVIROMENT": "ENVIRONMENT"}).items()
    )


# --- migrate ------------------------------------------------------------------------------


def test_migrate_says_which_setting_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["migrate"]) == 2
    assert capsys.readouterr().err.startswith("DATABASE_URL is not set")


def test_migrate_needs_nothing_but_a_database_that_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", NOWHERE)

    code = cli.main(["migrate"])

    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith("The database could not be migrated: ")
    assert said.count("\n") == 1
    assert "ever" not in said


# --- serve --------------------------------------------------------------------------------


def test_serve_in_production_without_settings_lists_every_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")

    code = cli.main(["serve"])

    said = capsys.readouterr().err
    assert code == 2
    assert [line.split(":")[0] for line in said.splitlines()[1:]] == [
        "  DATABASE_URL",
        "  SESSION_HASH_SECRET",
        "  CORS_ORIGINS",
        "  REDIS_URL",
    ]


@pytest.mark.usefixtures("usable")
def test_serve_refuses_a_number_of_workers_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")

    assert cli.main(["serve"]) == 2
    assert "WEB_CONCURRENCY: 'many'" in capsys.readouterr().err


async def client_seen_by_the_app(**options: Any) -> tuple[str, int]:
    """Who the app takes for the client of a request from loopback that claims another address."""
    seen: list[tuple[str, int]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])

    config = uvicorn.Config(app, **options | {"factory": False, "log_config": None})
    config.load()
    claim = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": ("127.0.0.1", 1), "scheme": "http", "headers": claim}
    await config.loaded_app(scope, None, None)
    return seen[0]


@pytest.mark.usefixtures("usable")
async def test_serve_believes_no_forged_address() -> None:
    options = server_options(load())

    assert await client_seen_by_the_app(**options) == ("127.0.0.1", 1)


@pytest.mark.usefixtures("usable")
async def test_serve_believes_the_proxies_it_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")

    options = server_options(load())

    assert await client_seen_by_the_app(**options) == ("203.0.113.7", 0)


@pytest.mark.usefixtures("usable")
def test_serve_answers_without_naming_its_server_and_ends_on_sigterm() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    address = next(filter(None, (re.search(r"http://(\S+)", line) for line in process.stderr)))[1]

    connection = http.client.HTTPConnection(address)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    connection.close()
    process.terminate()
    process.communicate(timeout=GIVE_UP)

    assert answer.status == 200
    assert answer.headers["server"] is None
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_once_what_it_serves_with(workers: str, tmp_path: Path) -> None:
    Path(".env").write_text(
        f"DATABASE_URL={NOWHERE}\nSESSION_HASH_SECRET={SECRET}\nPORT=8000\nLOG_FORMAT=json\n"
    )
    command = [sys.executable, "-m", "api.cli", "serve", "--port", "0", "--workers", workers]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said: list[str] = []
    while sum("startup complete" in line for line in said) < int(workers):
        said.append(process.stderr.readline())
        assert said[-1], said
    process.terminate()
    said += process.communicate(timeout=GIVE_UP)[1].splitlines()

    several = ", WEB_CONCURRENCY=2" if workers == "2" else ""
    lines = [json.loads(line) for line in said]
    [line] = [line for line in lines if line["event"].startswith("twofold 0.")]
    assert line["instance"].endswith(f"/{process.pid}")
    assert line["event"] == (
        f"twofold {version('twofold')} with DATABASE_URL=postgresql://********@127.0.0.1:1/tasks, "
        f"SESSION_HASH_SECRET=********, PORT=0{several}, LOG_FORMAT=json"
    )
    assert "ever" not in "".join(said)
    # Whose line it is, of several processes.
    started = {line["instance"] for line in lines if "startup complete" in line["event"]}
    assert len(started) == int(workers)


def refused_to_serve(*arguments: str) -> str:
    """What `twofold serve` says, and all that it says, when it ends with 1."""
    command = [sys.executable, "-m", "api.cli", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


@pytest.mark.usefixtures("usable")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_in_a_sentence_that_the_port_is_taken(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused_to_serve("--port", str(port), "--workers", workers)

    assert said == f"Port {port} of 127.0.0.1 is in use: stop what uses it, or set PORT.\n"


@pytest.mark.usefixtures("usable")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("nowhere.invalid", "HOST: 'nowhere.invalid' is not an address of this machine: "),
        ("two..dots", "HOST: 'two..dots' is not an address of this machine: "),
        ("192.0.2.1", "HOST: '192.0.2.1' is not an address of this machine: Cannot assign "),
    ],
)
def test_serve_says_that_it_cannot_listen_on_its_host(host: str, reason: str, workers: str) -> None:
    said = refused_to_serve("--host", host, "--port", "0", "--workers", workers)

    assert said.startswith(reason)
    assert said.count("\n") == 1


# --- `.env`, read by one process for all ---------------------------------------------------


@pytest.mark.usefixtures("usable")
def test_a_reloaded_env_file_replaces_the_variables_of_the_last_reading() -> None:
    dotenv, usual = DotenvVariables(), dict(os.environ)
    Path(".env").write_text("port=9000\nRATE_LIMIT_READ=7/hour\nOTHERS=1\nLOG_LEVEL=\n")
    first = dotenv.reload()
    of_workers = load(dotenv=False)
    in_environment = dict(os.environ)
    Path(".env").write_text("GRAPHQL_MAX_DEPTH=5\n")
    second = dotenv.reload()
    dotenv.restore()

    assert (first.port, first.rate_limit_read, first) == (9000, "7/hour", of_workers)
    assert in_environment == usual | {"PORT": "9000", "RATE_LIMIT_READ": "7/hour"}
    assert (second.port, second.graphql_max_depth) == (8000, 5)
    assert dict(os.environ) == in_environment


@pytest.mark.usefixtures("usable")
def test_the_environment_comes_before_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_READ", "8/hour")
    monkeypatch.setenv("rate_limit_write", "9/hour")
    monkeypatch.setenv("PORT", "")
    Path(".env").write_text("RATE_LIMIT_READ=1/hour\nRATE_LIMIT_WRITE=1/hour\nPORT=9000\n")

    settings = DotenvVariables().reload()

    assert settings.rate_limit_read == os.environ["RATE_LIMIT_READ"] == "8/hour"
    assert settings.rate_limit_write == "9/hour"
    assert settings.port == 9000


@pytest.mark.usefixtures("usable")
def test_a_pinned_variable_does_not_change_when_the_env_file_does() -> None:
    dotenv = DotenvVariables()
    Path(".env").write_text("PORT=9000\n")
    settings = dotenv.reload()
    dotenv.pin(HOST=settings.host, PORT=str(settings.port))
    Path(".env").write_text("PORT=9001\nHOST=0.0.0.0\nLOG_LEVEL=ERROR\n")

    settings = dotenv.reload()

    assert (settings.host, settings.port, settings.log_level) == ("127.0.0.1", 9000, "ERROR")


@pytest.mark.usefixtures("usable")
@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (b"ENVIRONMENT=prod\nLOG_LEVEL=LOUD\n", "ENVIRONMENT: .*\nLOG_LEVEL: "),
        (b"LOG_LEVEL=\xff\n", ".env: It cannot be read: it is not UTF-8"),
        (b"LOG_LEVEL=a\0b\n", ".env, line 1: It holds a null character"),
        (b"PORT=1\nLOG_LEVEL DEBUG\n", ".env, line 2: It is not NAME=value"),
    ],
)
def test_settings_that_cannot_be_used_change_nothing(wrong: bytes, problem: str) -> None:
    dotenv = DotenvVariables()
    Path(".env").write_text("RATE_LIMIT_READ=7/hour\n")
    dotenv.reload()
    before = dict(os.environ)
    Path(".env").write_bytes(wrong)

    with pytest.raises(SettingsError, match=problem):
        dotenv.reload()

    assert dict(os.environ) == before


@pytest.mark.parametrize("command", ["serve", "check", "dev", "migrate"])
def test_an_env_file_that_cannot_be_read_is_reported_in_a_sentence(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_bytes(b"LOG_LEVEL=\xff\n")

    assert cli.main([command]) == 2
    assert ".env: It cannot be read: it is not UTF-8." in capsys.readouterr().err


# --- dev ----------------------------------------------------------------------------------


class Terminal:
    """`twofold dev`, started in a folder and read until it says how to stop it.

    The variables of its shell are about another database.
    """

    def __init__(self, folder: Path, *command: str) -> None:
        command = command or (sys.executable, "-m", "api.cli", "dev")
        kept = ("PATH", "PYTHONPATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= hostile_environment(unreadable_home(folder))
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | {"PORT": "0"}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        said = []
        for line in lines:
            said.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        self.commands = [line for line in said if line.startswith("curl")]
        self.processes = family(self.process.pid)

    def paste(self, command: str) -> Any:
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        return json.loads(done.stdout)

    def end(self, number: int, *, times: int = 1) -> int:
        for _ in range(times):
            self.process.send_signal(number)
        self.process.communicate(timeout=GIVE_UP)
        wait_until_gone(self.processes)
        return self.process.returncode


Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `twofold dev`, again and again in the same folder."""
    started: list[Terminal] = []

    def start(*command: str) -> Terminal:
        started.append(Terminal(Path(folder), *command))
        return started[-1]

    with tempfile.TemporaryDirectory() as folder:
        # As `nobody` cannot reach pytest's own.
        Path(folder).chmod(0o711)
        yield start
        for process in filter(lives, chain.from_iterable(each.processes for each in started)):
            process.kill()


@pytest.mark.skipif(not shutil.which("curl"), reason="this machine has no curl")
def test_dev_prints_commands_that_work_and_keeps_what_they_made(start: Start) -> None:
    terminal = start()
    read, create, complete = terminal.commands
    [first] = terminal.paste(read)
    created = terminal.paste(create)
    completed = terminal.paste(complete)
    code = terminal.end(signal.SIGINT)

    again = start()
    kept = again.paste(again.commands[0])
    # A terminal that is closed says so to every process, and then once more.
    again.end(signal.SIGHUP, times=20)

    now = completed["updated_at"]
    changed = {"completed": True, "version": 2, "updated_at": now, "completed_at": now}
    assert completed == first | changed
    assert kept == [created, completed]
    assert code == 0
    assert token_in(again.commands[0]) == token_in(read)


def token_in(command: str) -> str:
    found = re.search(r"Bearer (\S+)'", command)
    assert found
    return found[1]


@pytest.mark.usefixtures("usable")
@pytest.mark.slow
def test_dev_reports_that_its_database_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "dev"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if line.startswith("Not ready"):
            break
    process.terminate()
    process.communicate(timeout=GIVE_UP)

    assert "Ctrl-C stops it. Changed files are reloaded." in said
    assert said[-1] == "Not ready yet: database: it does not answer"


@linux
@pytest.mark.slow
def test_nothing_of_dev_outlives_it_or_its_parent_when_killed(start: Start) -> None:
    dev = f"{sys.executable} -m api.cli dev --parent $$"
    through_make = start("sh", "-c", f"{dev} & wait")
    through_make.end(signal.SIGKILL)

    alone = start()
    alone.end(signal.SIGKILL)

    assert len(alone.processes) > 4


def test_dev_says_in_a_sentence_that_its_database_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "0")
    with tempfile.TemporaryDirectory() as folder:
        # As `nobody` cannot reach pytest's own.
        Path(folder).chmod(0o711)
        monkeypatch.chdir(folder)
        home = Path(folder) / ".data" / "postgres"
        with postgres(home):
            (home / "password").write_text("another")

        code = cli.main(["dev"])

        monkeypatch.chdir(tmp_path)

    assert code == 1
    assert capsys.readouterr().err == (
        f"The database in {home} cannot be used: password authentication failed for user "
        '"twofold". To begin anew, move that folder away.\n'
    )


def test_dev_says_in_a_sentence_that_the_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.server.listener.PORT_TIMEOUT", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with (
            pytest.raises(AddressError, match=f"Port {port} of 127.0.0.1 is in use"),
            listening("127.0.0.1", port),
        ):
            pass


async def test_trailers_are_no_headers_and_headers_have_an_end(database_url: str) -> None:
    async with served(database_url) as (client, _):
        port = client.base_url.port
        trailer = (
            b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n"
            b"Host: evil.example\r\n\r\n"
        )
        endless = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2_000_000

        of_trailer = await exchange(port, trailer)
        of_endless = await exchange(port, endless)

    # With the trailer for a header it would be 421, for there would be two hosts.
    assert of_trailer.startswith(b"HTTP/1.1 401 ")
    # A 400, unless the connection was gone before it could be read.
    assert of_endless[:13] in (b"", b"HTTP/1.1 400 ")


async def exchange(port: int | None, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        writer.write(message)
        await writer.drain()
    answer = b""
    with suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer
