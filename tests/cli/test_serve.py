"""The command `twofold serve`."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api import cli
from api.commands.serve import server_options
from api.settings import load
from tests.cli.terminal import NOWHERE, SECRET
from tests.control import GIVE_UP


def test_serve_in_production_without_settings_lists_every_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")

    code = cli.main(["serve"])

    output = capsys.readouterr().err
    assert code == 2
    assert [line.split(":")[0] for line in output.splitlines()[1:]] == [
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
async def test_serve_trusts_the_configured_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
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
    response = connection.getresponse()
    connection.close()
    process.terminate()
    process.communicate(timeout=GIVE_UP)

    assert response.status == 200
    assert response.headers["server"] is None
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_once_what_it_serves_with(workers: str, tmp_path: Path) -> None:
    Path(".env").write_text(
        f"DATABASE_URL={NOWHERE}\nSESSION_HASH_SECRET={SECRET}\nPORT=8000\nLOG_FORMAT=json\n"
    )
    command = [sys.executable, "-m", "api.cli", "serve", "--port", "0", "--workers", workers]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    output: list[str] = []
    while sum("startup complete" in line for line in output) < int(workers):
        output.append(process.stderr.readline())
        assert output[-1], output
    process.terminate()
    output += process.communicate(timeout=GIVE_UP)[1].splitlines()

    several = ", WEB_CONCURRENCY=2" if workers == "2" else ""
    lines = [json.loads(line) for line in output]
    [line] = [line for line in lines if line["event"].startswith("twofold 0.")]
    assert line["instance"].endswith(f"/{process.pid}")
    assert line["event"] == (
        f"twofold {version('twofold')} with DATABASE_URL=postgresql://********@127.0.0.1:1/tasks, "
        f"SESSION_HASH_SECRET=********, PORT=0{several}, LOG_FORMAT=json"
    )
    assert "ever" not in "".join(output)
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
        output = refused_to_serve("--port", str(port), "--workers", workers)

    assert output == f"Port {port} of 127.0.0.1 is in use: stop what uses it, or set PORT.\n"


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
    output = refused_to_serve("--host", host, "--port", "0", "--workers", workers)

    assert output.startswith(reason)
    assert output.count("\n") == 1
