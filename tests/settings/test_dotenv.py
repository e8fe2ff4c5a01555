"""Settings from `.env`, and what `.env.example` documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.dotenv import load_database_url
from api.settings import (
    Settings,
    SettingsError,
    load,
)
from persistence.pool import PoolSettings
from tests.conftest import ROOT
from tests.settings.environments import SECRET, URL, read


def test_the_environment_takes_precedence_over_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    Path(".env").write_text(f"# ours\nDATABASE_URL='{URL}'\nPORT=9000\nLOG_LEVEL=ERROR\nOTHERS=1\n")

    settings = read(monkeypatch, LOG_LEVEL="WARNING")

    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == URL
    assert (settings.port, settings.log_level) == (9000, "WARNING")


def test_migrations_need_only_the_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("SESSION_HASH_SECRET")
    Path(".env").write_text(f"DATABASE_URL={URL}\n")

    assert load_database_url() == URL


def test_migrations_report_a_missing_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")

    with pytest.raises(SettingsError, match="DATABASE_URL: It is missing"):
        load_database_url()


def example() -> dict[str, str]:
    """The settings in the commented lines of ``.env.example``."""
    lines = re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M)
    return dict(lines)


def test_env_example_documents_every_setting() -> None:
    settings = {name.upper() for name in Settings.model_fields}

    # `make run` sets DEMO_TOKEN itself.
    assert example().keys() == settings - {"DEMO_TOKEN"}


def test_env_example_sets_nothing_until_it_is_edited() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == []


def test_env_example_explains_each_setting_in_a_comment() -> None:
    text = (ROOT / ".env.example").read_text()
    paragraphs = [part for part in text.split("\n\n") if re.search("^#[A-Z_]+=", part, re.M)]

    assert [part for part in paragraphs if not part.startswith("# ")] == []


def test_env_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"DATABASE_URL", "SESSION_HASH_SECRET", "CORS_ORIGINS", "REDIS_URL"}
    by_environment = {"SQLALCHEMY_POOL_SIZE", "SQLALCHEMY_MAX_OVERFLOW"}
    values = {name: text for name, text in example().items() if name not in chosen | by_environment}
    defaults = load()

    assert read(monkeypatch, **values) == defaults


def test_env_example_is_valid_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, **example() | {"SESSION_HASH_SECRET": SECRET})

    assert settings.origins == ["https://app.example.com"]
    assert settings.pool == PoolSettings(10, 20, 30, 3600, True)
