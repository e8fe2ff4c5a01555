"""The defaults of settings, and the spellings that their values may have."""

from __future__ import annotations

import pytest

from api.settings import (
    Environment,
    Settings,
    load,
)
from persistence.pool import PoolSettings
from persistence.sessions.store import SessionStore
from tests.settings.environments import PRODUCTION, SECRET, URL, read


def test_two_settings_suffice_for_development() -> None:
    settings = load()

    assert settings.environment is Environment.DEVELOPMENT
    assert settings.session_store is SessionStore.HASHED
    assert settings.signing_secrets == []
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.request_deadline_seconds == 10
    assert settings.log_level == "INFO"
    assert not settings.is_production


@pytest.mark.parametrize(
    ("variables", "pool"),
    [
        ({}, PoolSettings(3, 5, 30, 3600, True)),
        ({"ENVIRONMENT": "development"}, PoolSettings(3, 5, 30, 3600, True)),
        ({"ENVIRONMENT": "testing"}, PoolSettings(1, 0, 30, 3600, True)),
        (PRODUCTION, PoolSettings(10, 20, 30, 3600, True)),
        ({"SQLALCHEMY_POOL_SIZE": "7"}, PoolSettings(7, 5, 30, 3600, True)),
        ({"SQLALCHEMY_MAX_OVERFLOW": "0"}, PoolSettings(3, 0, 30, 3600, True)),
        ({"SQLALCHEMY_POOL_TIMEOUT": "2.5"}, PoolSettings(3, 5, 2.5, 3600, True)),
        ({"SQLALCHEMY_POOL_RECYCLE": "-1"}, PoolSettings(3, 5, 30, -1, True)),
        ({"SQLALCHEMY_POOL_PRE_PING": "false"}, PoolSettings(3, 5, 30, 3600, False)),
    ],
)
def test_the_pool_depends_on_the_environment_and_its_settings(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], pool: PoolSettings
) -> None:
    assert read(monkeypatch, **variables).pool == pool


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name.upper() for name in Settings.model_fields]
    required = {"DATABASE_URL": URL, "SESSION_HASH_SECRET": SECRET}
    defaults = load()

    settings = read(monkeypatch, **dict.fromkeys(names, "") | required)

    assert settings == defaults


@pytest.mark.parametrize("text", ["production", "PRODUCTION", " Production "])
def test_the_environment_is_read_in_any_case(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert read(monkeypatch, **PRODUCTION | {"ENVIRONMENT": text}).is_production


def test_names_of_values_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, LOG_LEVEL="debug", SESSION_STORE="Better-Auth")

    assert (settings.log_level, settings.session_store) == ("DEBUG", SessionStore.BETTER_AUTH)


@pytest.mark.parametrize(
    ("variables", "is_json"),
    [
        ({}, False),
        ({"ENVIRONMENT": "testing"}, True),
        (PRODUCTION, True),
        (PRODUCTION | {"LOG_FORMAT": "human"}, False),
        ({"LOG_FORMAT": "JSON"}, True),
    ],
)
def test_lines_of_the_log_are_for_a_person_in_development(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_json: bool
) -> None:
    assert read(monkeypatch, **variables).logs_json == is_json
