"""Database URLs as people paste them: each form with what it is understood as."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from pwd import getpwuid
from typing import Any

import pytest

from persistence.urls import DatabaseURL, parse_database_url

NEON = "ep-cool-rain-123456.eu-central-1.aws.neon.tech"
POOLED = "ep-cool-rain-123456-pooler.eu-central-1.aws.neon.tech"


def understood(text: str) -> dict[str, Any]:
    """What a URL was understood as, without what goes without saying."""
    database = parse_database_url(text)
    arguments = {
        "user": database.user,
        "password": database.password,
        "host": database.host,
        "port": database.port,
        "database": database.database,
        "timeout": database.timeout,
        "pooled": database.pooled,
        "attempts": tuple(described(context) for context in database.attempts),
        **database.server_settings,
    }
    usual = {
        "application_name": "twofold",
        "attempts": PREFER,
        "pooled": False,
        "port": 5432,
        "user": getpwuid(os.geteuid()).pw_name,
    }
    return {
        name: value for name, value in arguments.items() if value not in (None, usual.get(name))
    }


def described(context: ssl.SSLContext | None) -> str:
    """What one attempt to connect asks of the server."""
    if context is None:
        return "no TLS"
    if context.verify_mode is ssl.CERT_NONE:
        return "TLS"
    return "certificate and name" if context.check_hostname else "certificate"


PREFER = ("TLS", "no TLS")
DISABLE = {"attempts": ("no TLS",)}
REQUIRE = {"attempts": ("TLS",)}

ADA = {"user": "ada", "password": "pw", "host": "db", "database": "app"}
ON_NEON = ADA | {"host": NEON}
POOLS = {"pooled": True}


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        # Schemes.
        ("postgresql://ada:pw@db/app", ADA),
        ("postgres://ada:pw@db/app", ADA),
        ("postgresql+asyncpg://ada:pw@db/app", ADA),
        # As Neon's console hands it out.
        (
            f"postgresql://ada:pw@{NEON}/app?sslmode=require&channel_binding=require",
            ON_NEON | REQUIRE,
        ),
        (
            f"psql 'postgresql://ada:pw@{NEON}/app?sslmode=require&channel_binding=require'",
            ON_NEON | REQUIRE,
        ),
        (f'psql "postgres://ada:pw@{NEON}/app"', ON_NEON),
        (f"psql postgres://ada:pw@{NEON}/app", ON_NEON),
        (
            f"postgresql://ada:pw@{POOLED}/app?sslmode=require",
            ADA | {"host": POOLED} | REQUIRE | POOLS,
        ),
        (
            f"postgresql://ada:pw@{NEON}/app?options=endpoint%3Dep-cool-rain-123456",
            ON_NEON | {"options": "endpoint=ep-cool-rain-123456"},
        ),
        # Quoted and padded, as a shell, an .env file or a mail leaves it.
        ("'postgresql://ada:pw@db/app'", ADA),
        ('"postgresql://ada:pw@db/app"', ADA),
        ("  postgresql://ada:pw@db/app\n", ADA),
        # Parameters.
        ("postgresql://ada:pw@db/app?sslmode=allow", ADA | {"attempts": ("no TLS", "TLS")}),
        ("postgresql://ada:pw@db/app?sslmode=prefer", ADA),
        ("postgresql://ada:pw@db/app?sslmode=disable", ADA | DISABLE),
        ("postgresql+asyncpg://ada:pw@db/app?ssl=require", ADA | REQUIRE),
        ("postgresql://ada:pw@db/app?pgbouncer=true", ADA | POOLS),
        ("postgresql://ada:pw@db/app?pgbouncer=false", ADA),
        ("postgresql://ada:pw@db/app?application_name=jobs", ADA | {"application_name": "jobs"}),
        ("postgresql://ada:pw@db/app?connect_timeout=3", ADA | {"timeout": 3.0}),
        (
            "postgresql://ada:pw@db/app?options=-c%20statement_timeout%3D5s",
            ADA | {"options": "-c statement_timeout=5s"},
        ),
        ("postgresql://ada:pw@db/app?gssencmode=prefer&target_session_attrs=read-write", ADA),
        ("postgresql://ada:pw@db/app?", ADA),
        # Passwords and names with what a URL cannot carry as it is.
        ("postgresql://ada:p%40ss%2Fw%3A%25%3F%23@db/app", ADA | {"password": "p@ss/w:%?#"}),
        ("postgresql://ada:a+b%2Bc@db/app", ADA | {"password": "a+b+c"}),
        ("postgresql://ada:p:w#x!@db/app", ADA | {"password": "p:w#x!"}),
        ("postgresql://ada:gr%C3%BCn@db/app", ADA | {"password": "grün"}),
        ("postgresql://ada%40home:pw@db/app", ADA | {"user": "ada@home"}),
        ("postgresql://ada:pw@db/my%20app", ADA | {"database": "my app"}),
        # Where.
        ("postgresql://ada:pw@db:6543/app", ADA | {"port": 6543}),
        ("postgresql://ada:pw@127.0.0.1:5433/app", ADA | {"host": "127.0.0.1", "port": 5433}),
        ("postgresql://ada:pw@[::1]:5433/app", ADA | {"host": "::1", "port": 5433}),
        ("postgresql://ada:pw@[2001:db8::7]/app", ADA | {"host": "2001:db8::7"}),
        ("postgresql://ada:pw@/app?host=/run/postgresql", ADA | {"host": "/run/postgresql"}),
        ("postgresql://ada@/app?host=/run", {"user": "ada", "host": "/run", "database": "app"}),
        # Without a user, the account of this process; without a host, this machine.
        ("postgresql:///app?host=%2Frun", {"host": "/run", "database": "app"}),
        ("postgresql://ada:pw@%2Frun%2Fpostgresql/app", ADA | {"host": "/run/postgresql"}),
        ("postgresql://db/app", {"host": "db", "database": "app"}),
        ("postgresql:///app", {"database": "app"}),
    ],
)
def test_a_url_is_understood_as_it_was_meant(pasted: str, meant: dict[str, Any]) -> None:
    assert understood(pasted) == meant


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("pasted", "sentence"),
    [
        ("", "It is not a URL of the form postgresql://user:password@host/database."),
        (f"ada:{SECRET}@db/app", "It is not a URL of the form"),
        (f"host=db user=ada password={SECRET}", "It is not a URL of the form"),
        (f"psql -h db -U ada {SECRET}", "It is not a URL of the form"),
        (f"postgresql:/ada:{SECRET}@db/app", "It is not a URL of the form"),
        (f"postgresql://ada:{SECRET}@db:fivefour/app", "It is not a URL of the form"),
        (f"postgresql://ada:{SECRET}@db:70000/app", "Its port is 70000; it must be 1 to 65535."),
        (f"postgresql://ada:{SECRET}@db:0/app", "Its port is 0; it must be 1 to 65535."),
        (f"mysql://ada:{SECRET}@db/app", "Its scheme is 'mysql'; it must be postgresql."),
        (
            f"postgresql+psycopg2://ada:{SECRET}@db/app",
            "Its scheme is 'postgresql+psycopg2'; it must be postgresql.",
        ),
        (f"postgresql://ada:{SECRET}@db", "It names no database:"),
        (f"postgresql://ada:{SECRET}@db/", "It names no database:"),
        (f"postgresql://ada:{SECRET}@db?sslmode=require", "It names no database:"),
        (f"postgresql://ada:x@{SECRET}@db/app", "It has more than one @;"),
        (f"postgresql://ada:x@y/z?{SECRET}=1@db/app", "It has more than one @;"),
        (f"postgresql://ada:x@{SECRET}?x@db/app", "It has more than one @;"),
        (f"postgresql://ada:{SECRET}@one,two/app", "It names more than one host;"),
        (f"postgresql://ada:{SECRET}@/app?host=one,two", "It names more than one host;"),
        (f"postgresql://ada:{SECRET}@one:5432,two:5432/app", "It is not a URL of the form"),
        (
            f"postgresql://ada:{SECRET}@db/app?sslmode=yes",
            "Its sslmode is 'yes'; it must be one of disable, allow, prefer, require, "
            "verify-ca, verify-full.",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?sslmode=require&sslmode=disable",
            "Its parameter 'sslmode' is repeated.",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?connection_limit=5",
            "Its parameter 'connection_limit' is unknown; known are application_name,",
        ),
        (
            f"postgresql://ada@db/app?password={SECRET}",
            "Its parameter 'password' is unknown; known are application_name,",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?connect_timeout=soon",
            "Its connect_timeout is 'soon'; it must be a number of seconds, 1 or more.",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?connect_timeout=0",
            "Its connect_timeout is '0'; it must be a number of seconds, 1 or more.",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?pgbouncer=yes",
            "Its pgbouncer is 'yes'; it must be true or false.",
        ),
        (
            f"postgresql://ada:{SECRET}@db/app?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem",
            "Its sslrootcert '/nowhere/ca.pem' cannot be read: No such file or directory.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_without_the_password(
    pasted: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refusal:
        parse_database_url(pasted)

    assert str(refusal.value).startswith(sentence)
    assert SECRET not in str(refusal.value)


def test_what_was_understood_does_not_show_the_password() -> None:
    database = parse_database_url(f"postgresql://ada:{SECRET}@db/app?sslmode=require")

    assert SECRET not in repr(database)
    assert SECRET not in str(database)


# --- TLS ----------------------------------------------------------------------------------


AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUe52f3dIleVD86P7Dbnpap27bVyYwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNVHdvZm9sZCB0ZXN0czAgFw0yNjExMjMwMDQ1MTFaGA8yMTI2
MTAzMDAwNDUxMVowGDEWMBQGA1UEAwwNVHdvZm9sZCB0ZXN0czBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABBfufBqp09kO46Yxp4nSWlppKIUo8CXJaguDVauHVa1C
so4TLYZmeXvch6SSdRRKCwapNuDUyUDx4nGyUnzLy+WjUzBRMB0GA1UdDgQWBBQW
1wcWU+jvPFagYq2u2VacF5TsizAfBgNVHSMEGDAWgBQW1wcWU+jvPFagYq2u2Vac
F5TsizAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCH2BSv8xbc
YhIbd+evZR/x/E1hq+QWNPfR1ISDE0o0yQIgFVD485faW1BYwi73szfjmvCd6RmD
Vd9hsahzXEhbC+8=
-----END CERTIFICATE-----
"""


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file with the certificate of somebody's own authority."""
    path = tmp_path / "ca.pem"
    path.write_text(AUTHORITY)
    return path


def context_for(parameters: str) -> ssl.SSLContext:
    """The context of a URL that allows nothing but TLS."""
    database: DatabaseURL = parse_database_url(f"postgresql://ada:pw@db/app?{parameters}")
    [context] = database.attempts
    assert context
    return context


@pytest.mark.parametrize(
    ("parameters", "checks_the_name"),
    [
        ("sslmode=verify-full", True),
        ("sslmode=verify-ca", False),
        ("sslrootcert=system", True),
        ("sslmode=verify-full&sslrootcert=system", True),
        ("sslrootcert=system&sslmode=require", True),
    ],
)
def test_the_authorities_of_the_system_are_trusted(parameters: str, checks_the_name: bool) -> None:
    context = context_for(parameters)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is checks_the_name


@pytest.mark.parametrize(
    ("mode", "checks_the_name"),
    [
        ("verify-full", True),
        ("verify-ca", False),
        ("require", False),
        ("prefer", False),
        ("allow", False),
    ],
)
def test_a_root_certificate_is_checked_whatever_the_order(
    mode: str, checks_the_name: bool, authority: Path
) -> None:
    before = context_for(f"sslrootcert={authority}&sslmode={mode}")
    after = context_for(f"sslmode={mode}&sslrootcert={authority}")

    assert before.verify_mode is after.verify_mode is ssl.CERT_REQUIRED
    assert before.check_hostname is after.check_hostname is checks_the_name
    assert len(before.get_ca_certs()) == len(after.get_ca_certs()) == 1


def test_no_root_certificate_brings_tls_back_where_it_is_disabled(authority: Path) -> None:
    before = understood(f"postgresql://ada:pw@db/app?sslrootcert={authority}&sslmode=disable")
    after = understood(f"postgresql://ada:pw@db/app?sslmode=disable&sslrootcert={authority}")

    assert before == after == ADA | DISABLE
