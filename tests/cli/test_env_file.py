"""The file `.env`, which one process reads for all that it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api import cli
from api.dotenv import DotenvVariables
from api.settings import SettingsError, load


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
