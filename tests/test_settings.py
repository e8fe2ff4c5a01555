"""Settings: how they are read, their defaults, and how invalid ones are reported."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from api.commands.check import unvalidated_settings
from api.dotenv import load_database_url
from api.settings import (
    Environment,
    Settings,
    SettingsError,
    load,
)
from persistence.pool import PoolSettings
from persistence.sessions.layouts import SessionStore
from tests.conftest import ROOT

PASSWORD = "hunter2"
URL = f"postgresql://ada:{PASSWORD}@db/app"
SECRET = "sesame open sesame open sesame open"
SIGNING = "abracadabra abracadabra abracadabra"
REDIS_PASSWORD = "swordfish"
REDIS = f"redis://:{REDIS_PASSWORD}@cache/0"


@pytest.fixture(autouse=True)
def _bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in a folder without a ``.env``, with the two required settings only."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("SESSION_HASH_SECRET", SECRET)


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

# --- Defaults -----------------------------------------------------------------------------


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


# --- .env ---------------------------------------------------------------------------------


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


# --- Invalid settings ---------------------------------------------------------------------


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
def test_a_list_of_secrets_is_told_from_one_with_commas(text: str, secrets: list[str]) -> None:
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


# --- Origins ------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_configured_origins_apply_in_every_environment(
    monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    variables = PRODUCTION | {"ENVIRONMENT": environment}

    assert read(monkeypatch, **variables).origins == ["https://app.example.com"]


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://a.example,https://b.example", ["https://a.example", "https://b.example"]),
        (" https://a.example , https://b.example, ", ["https://a.example", "https://b.example"]),
        ("https://a.example:8443", ["https://a.example:8443"]),
        ("https://[2001:db8::7]:8443", ["https://[2001:db8::7]:8443"]),
        ("https://xn--mnchen-3ya.example", ["https://xn--mnchen-3ya.example"]),
        # Browsers send lower case, without the default port of the scheme.
        ("HTTPS://App.Example", ["https://app.example"]),
        ("https://a.example:443", ["https://a.example"]),
    ],
)
def test_origins_are_normalized_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: list[str]
) -> None:
    assert read(monkeypatch, **PRODUCTION | {"CORS_ORIGINS": text}).origins == origins


INVALID_ORIGINS = [
    "*",
    "null",
    "https://a.example/",
    "https://a.example/path",
    "https://a.example?x",
    "https://*.example",
    "https://ada@a.example",
    "https://",
    "https://a.example:port",
    "https://a b",
    "a.example",
    "//a.example",
    "1tp://a.example",
    '["https://a.example"]',
]


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("text", INVALID_ORIGINS)
def test_an_invalid_origin_is_a_problem_in_every_environment(
    monkeypatch: pytest.MonkeyPatch, environment: str, text: str
) -> None:
    variables = {"ENVIRONMENT": environment, "CORS_ORIGINS": f"https://b.example,{text}"}

    problems = problems_of(monkeypatch, **PRODUCTION | variables)

    assert problems["CORS_ORIGINS"].startswith(f"{text!r} is not an origin: scheme://host,")


def test_production_refuses_every_origin_without_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    origins = "http://a.example,https://b.example,http://localhost:3000"

    problems = problems_of(monkeypatch, **PRODUCTION | {"CORS_ORIGINS": origins})

    assert problems == {
        "CORS_ORIGINS": "'http://a.example' must not be http:// in production. "
        "'http://localhost:3000' must not be http:// in production."
    }


def test_http_origins_are_valid_outside_production(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, CORS_ORIGINS="http://a.example:80").origins == ["http://a.example"]


# --- Secrets ------------------------------------------------------------------------------


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
