"""The workers of one instance: what happens when one of them ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import httpx
import psutil
import pytest

from tests.control import GIVE_UP
from tests.drills.instances import WORKERS, processes_of, until_logged
from tests.servers import COMMAND, served

pytestmark = pytest.mark.timeout(600)


@asynccontextmanager
async def serving(
    database_url: str, log: Path, **environment: str
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """Two workers, both of which serve. Their log is a file."""
    shell = ("sh", "-c", 'exec "$@" 2>"$LOG"', "sh", *COMMAND, *WORKERS)
    environment = {"LOG": str(log), "LOG_LEVEL": "INFO", **environment}
    async with served(database_url, *shell, **environment) as (client, process):
        await until_logged(log, "startup complete", 2)
        yield client, process


@pytest.mark.slow
async def test_a_worker_that_is_killed_is_replaced_and_its_end_logged(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with serving(database_url, log) as (client, process):
        killed, ended = processes_of(process)[1:]
        killed.kill()
        await until_logged(log, "startup complete", 3)
        # A normal end is not an error.
        ended.terminate()
        await until_logged(log, "startup complete", 4)
        response = await client.get("/health")
        process.terminate()
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert errors_of(log) == [f"worker {killed.pid} was ended by SIGKILL"]
    assert f"worker {ended.pid} ended with exit code 0" in log.read_text()
    assert response.status_code == 200
    assert code == 0


@pytest.mark.slow
async def test_without_a_worker_that_lives_the_instance_ends(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with serving(database_url, log) as (_, process):
        async with asyncio.timeout(GIVE_UP):
            while process.returncode is None:
                with suppress(psutil.NoSuchProcess):
                    for worker in processes_of(process)[1:]:
                        worker.kill()
                await asyncio.sleep(0.05)

    *ends, reason = errors_of(log)
    assert all("was ended by SIGKILL" in end for end in ends)
    assert len(ends) >= 5
    assert reason == "stopping: no worker serves, and 5 in a row ended within 10 s of their start"
    assert process.returncode == 3


@pytest.mark.drill
async def test_a_release_that_cannot_be_imported_ends_the_instance(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    (tmp_path / "strawberry.py").write_text("import a_module_that_was_forgotten")
    with pytest.raises(RuntimeError, match="exit code 3"):
        async with serving(database_url, log, PYTHONPATH=str(tmp_path)):
            pass

    end, reason, *_ = [line for line in errors_of(log) if "worker" in line]
    assert "a_module_that_was_forgotten" in log.read_text()
    assert re.fullmatch(r"worker \d+ ended with exit code 1 before it could serve", end)
    assert reason == "stopping: no worker serves, and this one could not start"


@pytest.mark.slow
async def test_workers_end_with_their_parent(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path / "log") as (_, process):
        workers = processes_of(process)[1:]
        process.send_signal(SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, GIVE_UP)

    assert not alive


@pytest.mark.drill
@pytest.mark.parametrize("number", [SIGTERM, SIGHUP])
async def test_a_worker_that_hangs_holds_up_neither_a_stop_nor_a_reload(
    number: Signals, database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with serving(database_url, log) as (client, process):
        frozen = processes_of(process)[1]
        frozen.suspend()
        process.send_signal(number)
        if number == SIGHUP:
            await until_logged(log, "startup complete", 4)
            assert (await client.get("/health")).status_code == 200
            process.terminate()
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert f"worker {frozen.pid} does not answer, and is killed" in errors_of(log)
    assert not frozen.is_running()
    assert code == 0


@pytest.mark.slow
async def test_however_many_signals_end_an_instance_without_a_traceback(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with serving(database_url, log) as (_, process):
        process.terminate()
        with suppress(ProcessLookupError):
            for number in (SIGINT, SIGTERM, SIGHUP) * 1000:
                process.send_signal(number)
                # Until the end, and while Python ends.
                await asyncio.sleep(0.001)
        code = await asyncio.wait_for(process.wait(), GIVE_UP)

    assert "Traceback" not in log.read_text()
    assert errors_of(log) == []
    assert code == 0


@pytest.mark.slow
async def test_a_hangup_of_all_processes_replaces_the_workers_and_cuts_no_request_off(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with serving(database_url, log) as (client, process):
        for each in processes_of(process):
            each.send_signal(SIGHUP)
        await until_logged(log, "startup complete", 4)
        response = await client.get("/health")
        process.terminate()
        await asyncio.wait_for(process.wait(), GIVE_UP)

    assert response.status_code == 200
    assert errors_of(log) == []


def errors_of(log: Path) -> list[str]:
    """The messages of our own errors in a log."""
    # Python itself writes the traceback of a worker that cannot be imported.
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ours = [line for line in lines if line["logger"] == "twofold"]
    return [line["event"] for line in ours if line["level"] == "error"]
