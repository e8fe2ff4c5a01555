"""Valid values of settings, and settings read from an environment with them."""

from __future__ import annotations

import pytest

from api.settings import (
    Settings,
    SettingsError,
    load,
)

PASSWORD = "hunter2"
URL = f"postgresql://ada:{PASSWORD}@db/app"
SECRET = "sesame open sesame open sesame open"
SIGNING = "abracadabra abracadabra abracadabra"
REDIS_PASSWORD = "swordfish"
REDIS = f"redis://:{REDIS_PASSWORD}@cache/0"


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Load the settings after these variables were set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load()


def problems_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """The problem with each of these variables, by name."""
    with pytest.raises(SettingsError) as error:
        read(monkeypatch, **variables)
    return dict(problem.split(": ", 1) for problem in error.value.problems)


PRODUCTION = {
    "ENVIRONMENT": "production",
    "CORS_ORIGINS": "https://app.example.com",
    "REDIS_URL": REDIS,
}
