"""Secrets of settings, and that no output of the settings has one."""

from __future__ import annotations

import traceback

import pytest
from pydantic import ValidationError

from api.commands.check import unvalidated_settings
from api.settings import (
    Settings,
    SettingsError,
)
from tests.settings.environments import (
    PASSWORD,
    PRODUCTION,
    REDIS,
    REDIS_PASSWORD,
    SECRET,
    SIGNING,
    URL,
    read,
)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("one", [b"one"]),
        ("new,old", [b"new", b"old"]),
        (" new , old ,", [b"new", b"old"]),
        ("2:new,1:old", [b"new", b"old"]),
        ("2: new , 1: old", [b"new", b"old"]),
        ("2:with:colons,1:old", [b"with:colons", b"old"]),
        ("not:a version,1:old", [b"not:a version", b"old"]),
        ("2:new,old", [b"new", b"old"]),
        ("gr\u00fcn", [b"gr\xc3\xbcn"]),
    ],
)
def test_better_auths_secrets_are_read_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, text: str, secrets: list[bytes]
) -> None:
    assert read(monkeypatch, BETTER_AUTH_SECRETS=text).signing_secrets == secrets


EVERY_SECRET = {
    "DATABASE_URL": URL,
    "SESSION_HASH_SECRET": SECRET,
    "BETTER_AUTH_SECRETS": f"2:{SIGNING},1:older",
    "REDIS_URL": REDIS,
    "DEMO_TOKEN": "abc-of-the-demo",
}
SECRETS = [PASSWORD, SECRET, SIGNING, "older", REDIS_PASSWORD, "abc-of-the-demo"]


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_masked_shows_every_setting_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    values = read(monkeypatch, **PRODUCTION | EVERY_SECRET | {"PORT": "9000"}).masked()

    assert values.keys() == {name.upper() for name in Settings.model_fields}
    assert {values[name] for name in EVERY_SECRET} == {
        "********",
        "postgresql://********@db/app",
        "redis://********@cache/0",
    }
    assert (values["ENVIRONMENT"], values["PORT"], values["SESSION_TABLE"]) == (
        "production",
        "9000",
        "",
    )
    assert leaked(str(values)) == []


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:pw@host/db?sslpassword=pw", "postgresql://********@host/db"),
        ("postgres://pw@h-1.example.com:5432", "postgres://********@h-1.example.com:5432"),
        ("postgresql://u:p/w@host/db", "postgresql://********@host/db"),
        # If the parts of the URL are ambiguous, all of it is masked.
        ("postgresql://u:p@w@host/db", "********"),
        ("postgresql://u:123/db", "********"),
        ("postgresql://u:pw@one,two/db", "********"),
        ("postgresql://u:pw@host/db#pw", "********"),
        ("postgresql:///db?user=u&password=pw", "********"),
        ("unix://u:pw@/run/redis.sock", "********"),
    ],
)
def test_host_and_path_of_a_url_are_not_masked(
    url: str, masked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    assert unvalidated_settings()["DATABASE_URL"] == masked


def test_unvalidated_settings_are_reported_with_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("SESSION_HASH_SECRET", "short-and-secret")

    values = unvalidated_settings()

    assert values.keys() == {name.upper() for name in Settings.model_fields}
    assert (values["LOG_LEVEL"], values["SESSION_HASH_SECRET"]) == ("LOUD", "********")
    assert (values["PORT"], values["SESSION_STORE"], values["REDIS_URL"]) == ("8000", "hashed", "")


def test_chosen_settings_are_those_that_differ_from_their_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read(monkeypatch, PORT="8000", LOG_LEVEL="debug", BETTER_AUTH_SECRETS=SIGNING)

    assert settings.chosen() == {
        "DATABASE_URL": "postgresql://********@db/app",
        "SESSION_HASH_SECRET": "********",
        "BETTER_AUTH_SECRETS": "********",
        "LOG_LEVEL": "DEBUG",
    }


def test_effective_settings_include_the_defaults_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_default = read(monkeypatch).effective()
    in_production = read(monkeypatch, **PRODUCTION).effective()

    names = ("CORS_ORIGINS", "DRAIN_SECONDS", "SQLALCHEMY_POOL_SIZE", "SQLALCHEMY_MAX_OVERFLOW",
             "GRAPHQL_INTROSPECTION")  # fmt: skip
    assert [by_default[name] for name in names] == [
        "localhost, any port",
        "0.0",
        "3",
        "5",
        "True",
    ]
    assert [in_production[name] for name in names] == [
        "https://app.example.com", "5.0", "10", "20", "False",
    ]  # fmt: skip
    assert in_production["DATABASE_URL"] == "postgresql://********@db/app"


def test_masked_shows_an_unset_secret_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch).masked()["BETTER_AUTH_SECRETS"] == ""


def test_no_representation_of_the_settings_has_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read(monkeypatch, **PRODUCTION | EVERY_SECRET)

    written = [repr(settings), str(settings), settings.model_dump_json(), str(vars(settings))]
    assert leaked("\n".join(written)) == []


INVALID_WITH_SECRETS = [
    {"DATABASE_URL": f"mysql://ada:{PASSWORD}@db/app"},
    {"DATABASE_URL": f"postgresql://ada:x@{PASSWORD}@db/app"},
    {"DATABASE_URL": f"ada:{PASSWORD}@db/app"},
    {"SESSION_HASH_SECRET": PASSWORD},
    {"BETTER_AUTH_SECRETS": f"2:{SIGNING},1:"},
    {"REDIS_URL": f"http://:{REDIS_PASSWORD}@cache"},
    {"LOG_LEVEL": "LOUD"},
]


@pytest.mark.parametrize("invalid", INVALID_WITH_SECRETS)
def test_no_settings_error_has_a_secret(
    monkeypatch: pytest.MonkeyPatch, invalid: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as settings_error:
        read(monkeypatch, **PRODUCTION | EVERY_SECRET | invalid)
    with pytest.raises(ValidationError) as validation_error:
        Settings()

    written = [
        str(settings_error.value),
        repr(settings_error.value),
        *traceback.format_exception(settings_error.value),
        str(validation_error.value),
        repr(validation_error.value),
    ]
    assert leaked("\n".join(written)) == []
