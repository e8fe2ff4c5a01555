"""The unit for systemd: what systemd says of it, and that the service runs as it tells."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from api.settings import setting_names
from tests.conftest import HASH_SECRET, ROOT
from tests.control import GIVE_UP
from tests.deploy.test_document import block
from tests.servers import COMMAND, require_program, served

pytestmark = pytest.mark.slow

UNIT = ROOT / "deploy/twofold.service"


def directives(name: str) -> list[str]:
    """The values of a directive, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def analyze() -> str:
    return require_program("systemd-analyze", "systemd")


def test_systemd_reads_the_unit_without_a_complaint(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / "twofold.service"
    # The program is not where the unit has it.
    twofold = Path(sys.executable).with_name("twofold")
    unit.write_text(UNIT.read_text().replace("/opt/twofold/bin/twofold", str(twofold)))

    def verified() -> tuple[int, str]:
        done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
        lines = [line for line in done.stderr.splitlines() if "twofold.service" in line]
        return done.returncode, "\n".join(lines)

    right = verified()
    unit.write_text(unit.read_text().replace("PrivateTmp=yes", "PrivateTemp=yes"))

    assert right == (0, "")
    assert "PrivateTemp" in verified()[1]


def test_systemd_finds_little_that_the_unit_leaves_open(analyze: str) -> None:
    command = [analyze, "security", "--offline=true", "--threshold=15", UNIT]
    done = subprocess.run(command, capture_output=True, text=True)

    # Of 10.0 that a unit without any restriction has.
    assert done.returncode == 0, done.stdout[-200:]


def test_systemd_waits_longer_than_the_service_takes_to_stop() -> None:
    assert directives("KillSignal") == ["SIGTERM"]
    assert directives("KillMode") == ["mixed"]
    # DRAIN_SECONDS, REQUEST_DEADLINE_SECONDS and 20 s for slow clients.
    assert int(*directives("TimeoutStopSec")) > 5 + 10 + 20


def deny_writable_code() -> None:
    """As MemoryDenyWriteExecute: no memory that can be written and executed (Linux 6.3)."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


async def test_the_machine_is_set_up_by_the_lines_of_the_document(
    database_url: str, tmp_path: Path
) -> None:
    lines = block("sh", "systemctl enable").replace(" -g twofold", "")
    for folder in ("/opt/twofold", "/etc/twofold", "/etc/systemd/system"):
        assert folder in lines
        lines = lines.replace(folder, f"{tmp_path}{folder}")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "opt").mkdir()
    options = ("--wheel", "--offline", "--no-build-isolation", "--quiet", "--out-dir", tmp_path)
    build = [Path(sys.executable).with_name("uv"), "build", *options, ROOT]
    await asyncio.to_thread(subprocess.run, build, check=True)
    for source in (ROOT / "requirements-runtime.lock", UNIT):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / ".env").write_text(
        f"DATABASE_URL={database_url}\nSESSION_HASH_SECRET={HASH_SECRET}\nWEB_CONCURRENCY=2\n"
    )
    # What would change this machine is printed only.
    commands = (
        f'useradd() {{ echo "useradd $*"; }}; systemctl() {{ echo "systemctl $*"; }}\n{lines}'
    )
    variables = {name: value for name, value in os.environ.items() if name not in setting_names()}
    variables |= {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-euc", commands], cwd=tmp_path, env=variables,
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "WEB_CONCURRENCY" in done.stdout
    assert "The schema is up to date." in done.stdout
    assert (tmp_path / "etc/systemd/system/twofold.service").read_text() == UNIT.read_text()
    assert (tmp_path / "etc/twofold/.env").stat().st_mode & 0o777 == 0o640


async def test_reload_and_stop_do_what_the_unit_says(database_url: str) -> None:
    [start], [reload] = directives("ExecStart"), directives("ExecReload")
    command = [*COMMAND[:-1], *start.split()[1:]]
    assert reload == "/bin/kill -HUP $MAINPID"
    assert directives("MemoryDenyWriteExecute") == ["yes"]

    async with served(database_url, *limited(command)) as (_, process):
        before = await until_two_workers(process.pid, set())
        process.send_signal(signal.SIGHUP)
        await until_two_workers(process.pid, before)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert code == 0


def limited(command: list[str]) -> list[str]:
    """A command under the unit's restriction of memory."""
    code = (
        "import os, sys; from tests.deploy.test_systemd import deny_writable_code as deny;"
        " deny(); os.execv(sys.executable, sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *command]


async def until_two_workers(parent: int, replaced: set[int]) -> set[int]:
    """The two worker processes of `twofold serve`, when none of those replaced is left."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            workers = set()
            for child in psutil.Process(parent).children():
                with suppress(psutil.NoSuchProcess):
                    if "spawn_main" in " ".join(child.cmdline()):
                        workers.add(child.pid)
            if len(workers) == 2 and not workers & replaced:
                return workers
            await asyncio.sleep(0.1)
