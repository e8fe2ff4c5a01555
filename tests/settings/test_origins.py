"""CORS origins: normalized, and refused if a browser would not send them."""

from __future__ import annotations

import pytest

from tests.settings.environments import PRODUCTION, problems_of, read


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
