"""The command `twofold dev`."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from api import cli
from api.server.listener import AddressError, listening
from persistence.embedded.postgres import postgres
from tests.cli.terminal import Terminal
from tests.control import GIVE_UP
from tests.test_embedded import linux, lives

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
    match = re.search(r"Bearer (\S+)'", command)
    assert match
    return match[1]


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
    output = []
    for line in process.stdout:
        output.append(line.strip())
        if line.startswith("Not ready"):
            break
    process.terminate()
    process.communicate(timeout=GIVE_UP)

    assert "Ctrl-C stops it. Changed files are reloaded." in output
    assert output[-1] == "Not ready yet: database: it does not answer"


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
