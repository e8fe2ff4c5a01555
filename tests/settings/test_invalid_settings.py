"""Every invalid setting is reported at once, each in a sentence."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from api.settings import (
    Settings,
)
from tests.settings.environments import URL, problems_of, read


def test_production_reports_every_missing_setting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = problems_of(
        monkeypatch, ENVIRONMENT="production", DATABASE_URL="", SESSION_HASH_SECRET=""
    )

    missing = {"DATABASE_URL", "SESSION_HASH_SECRET", "CORS_ORIGINS", "REDIS_URL"}
    assert problems.keys() == missing
    assert {problem[:14] for problem in problems.values()} == {"It is missing:"}


def test_production_reports_every_weak_or_invalid_setting_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invalid = {
        "DATABASE_URL": "mysql://ada@db/app",
        "SESSION_HASH_SECRET": "x" * 31,
        "BETTER_AUTH_SECRETS": "2:",
        "CORS_ORIGINS": "http://app.example.com",
        "PORT": "70000",
        "SQLALCHEMY_POOL_SIZE": "0",
        "SQLALCHEMY_MAX_OVERFLOW": "-1",
        "SQLALCHEMY_POOL_TIMEOUT": "0",
        "SQLALCHEMY_POOL_RECYCLE": "never",
        "SQLALCHEMY_POOL_PRE_PING": "perhaps",
        "REQUEST_DEADLINE_SECONDS": "61",
        "REDIS_URL": "http://cache",
        "LOG_LEVEL": "LOUD",
    }

    assert problems_of(monkeypatch, ENVIRONMENT="production", **invalid).keys() == invalid.keys()


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("n" * 32, ["n" * 32]),
        # A newline at the end of a secret's file belongs to it.
        (f"{'n' * 32}\n", [f"{'n' * 32}\n"]),
        (f"{'n' * 32}, {'o' * 32}", ["n" * 32, "o" * 32, f"{'n' * 32}, {'o' * 32}"]),
        # From before there were lists: no part could be a secret.
        ("one secret, which has, in all, 32", ["one secret, which has, in all, 32"]),
    ],
    ids=["one", "with a newline", "new and old", "one with commas"],
)
def test_a_list_of_secrets_is_distinguished_from_one_secret_with_commas(
    text: str, secrets: list[str]
) -> None:
    settings = Settings(database_url=SecretStr(URL), session_hash_secret=SecretStr(text))

    assert [secret.decode() for secret in settings.hash_secrets] == secrets


@pytest.mark.parametrize(
    ("variables", "name", "sentence"),
    [
        (
            {"ENVIRONMENT": "staging"},
            "ENVIRONMENT",
            "It must be development, testing or production.",
        ),
        ({"SESSION_STORE": "redis"}, "SESSION_STORE", "It must be hashed or better-auth."),
        ({"DATABASE_URL": "mysql://ada@db/app"}, "DATABASE_URL", "Its scheme is 'mysql';"),
        ({"DATABASE_URL": ""}, "DATABASE_URL", "It is missing: the PostgreSQL"),
        ({"SESSION_HASH_SECRET": ""}, "SESSION_HASH_SECRET", "It is missing: the secret with"),
        (
            {"SESSION_HASH_SECRET": "x" * 31},
            "SESSION_HASH_SECRET",
            "It is weak: it must be at least 32 characters.",
        ),
        (
            {"SESSION_HASH_SECRET": f"{'x' * 32},"},
            "SESSION_HASH_SECRET",
            "Secret 2 of 2 is empty: between commas, each must be at least 32 characters.",
        ),
        (
            {"SESSION_HASH_SECRET": f"{'x' * 31},{'y' * 32}"},
            "SESSION_HASH_SECRET",
            "Secret 1 of 2 is weak: between commas, each must be at least 32 characters.",
        ),
        (
            {"SESSION_HASH_SECRET": ",".join(["x" * 32] * 6)},
            "SESSION_HASH_SECRET",
            "It holds 6 secrets; at most 5 may be in use.",
        ),
        (
            {"BETTER_AUTH_SECRETS": "a,b,c,d,e,f"},
            "BETTER_AUTH_SECRETS",
            "It holds 6 secrets; at most 5 may be in use.",
        ),
        ({"BETTER_AUTH_SECRETS": ","}, "BETTER_AUTH_SECRETS", "It holds no secret."),
        (
            {"BETTER_AUTH_SECRETS": "2:new,1:"},
            "BETTER_AUTH_SECRETS",
            "The secret of version 1 is empty.",
        ),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT", "It must be json or human."),
        (
            {"BUILD_COMMIT": "HEAD"},
            "BUILD_COMMIT",
            "It is not a Git commit: 7 to 64 hexadecimal digits.",
        ),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL", "It must be DEBUG, INFO, WARNING, ERROR or CRITICAL."),
        ({"PORT": "http"}, "PORT", "'http' is not a whole number."),
        ({"PORT": "8000.5"}, "PORT", "'8000.5' is not a whole number."),
        ({"PORT": "70000"}, "PORT", "It must be 65535 or less."),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY", "It must be 1 or more."),
        ({"DRAIN_SECONDS": "soon"}, "DRAIN_SECONDS", "'soon' is not a number."),
        (
            {"SQLALCHEMY_POOL_TIMEOUT": "0"},
            "SQLALCHEMY_POOL_TIMEOUT",
            "It must be more than 0.",
        ),
        (
            {"RATE_LIMIT_ENABLED": "perhaps"},
            "RATE_LIMIT_ENABLED",
            "'perhaps' is neither true nor false.",
        ),
    ],
)
def test_a_problem_is_reported_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, sentence: str
) -> None:
    problems = problems_of(monkeypatch, **variables)

    assert list(problems) == [name]
    assert problems[name].startswith(sentence)


def test_better_auth_sessions_need_no_hash_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read(monkeypatch, SESSION_STORE="better-auth", SESSION_HASH_SECRET="")

    assert settings.session_hash_secret is None
