"""An environment without settings, for every test of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import cli
from tests.cli.terminal import NOWHERE, SECRET


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
