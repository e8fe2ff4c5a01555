"""An environment without any setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import Settings
from tests.settings.environments import SECRET, URL


@pytest.fixture(autouse=True)
def _bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in a folder without a ``.env``, with the two required settings only."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("SESSION_HASH_SECRET", SECRET)
