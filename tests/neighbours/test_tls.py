"""TLS to a real PostgreSQL: each sslmode against each kind of server, and client certificates."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import uvloop

from api.commands import migrate
from api.commands.errors import CommandError
from api.settings import SettingsError, load
from persistence.embedded.postgres import Postgres
from persistence.migrations import upgrade
from persistence.tls import MODES
from persistence.urls import parse_database_url
from tests.conftest import run_sql
from tests.control import GIVE_UP
from tests.neighbours.databases import client_of
from tests.neighbours.tls_servers import KEY_PASSWORD, ROLES, Certificates, postgres_with_tls
from tests.people import SESSION_TABLES, sign_in
from tests.surfaces import RestSurface


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of the server and of its clients."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
async def encrypting(certificates: Certificates) -> AsyncIterator[Postgres]:
    """A PostgreSQL with TLS, whose certificate is for ``localhost``."""
    with postgres_with_tls(certificates) as server:
        await run_sql(server.url(), ROLES)
        yield server


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Each event loop in turn: they report failures of TLS in their own ways."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


async def outcome(url: str) -> str:
    """How a connection to a URL ends: one word of the table below."""
    try:
        connection = await parse_database_url(url).connect(timeout=GIVE_UP)
    except ssl.SSLCertVerificationError as error:
        return "stranger" if "certificate in certificate chain" in str(error) else "name"
    except asyncpg.InvalidAuthorizationSpecificationError:
        return "refused"
    except (ConnectionError, asyncpg.ConnectionDoesNotExistError):
        return "failed"
    encrypted = await connection.fetchval(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    await connection.close()
    return "TLS" if encrypted else "plain"


# --- The six modes ------------------------------------------------------------------------

# failed: TLS could not be agreed upon. refused: pg_hba.conf has no connections of this kind.
# stranger: the authority is not trusted. name: the certificate is for another host.
OUTCOMES: Final = """
    server                       disable   allow     prefer    require   verify-ca  verify-full
    without TLS                  plain     plain     plain     failed    failed     failed
    with TLS                     plain     plain     TLS       TLS       stranger   stranger
    for TLS only                 refused   TLS       TLS       TLS       stranger   stranger
    not for TLS                  plain     plain     plain     refused   stranger   stranger
    of the trusted authority     plain     TLS       TLS       TLS       TLS        TLS
    of the authority, misnamed   plain     TLS       TLS       TLS       TLS        name
    of another authority         plain     stranger  stranger  stranger  stranger   stranger
    without the trusted TLS      plain     failed    failed    failed    failed     failed
    of the system, misnamed      plain     name      name      name      name       name
    unknown to the system        plain     stranger  stranger  stranger  stranger   stranger
"""


def rows() -> dict[str, list[str]]:
    """The outcomes of each kind of server, in the order of the modes."""
    lines = [re.split("  +", line.strip()) for line in OUTCOMES.strip().splitlines()]
    assert tuple(lines[0][1:]) == MODES
    return {line[0]: line[1:] for line in lines[1:]}


@pytest.mark.parametrize(("server", "outcomes"), rows().items())
def test_each_mode_ends_as_in_the_table(
    server: str,
    outcomes: list[str],
    postgres: Postgres,
    encrypting: Postgres,
    certificates: Certificates,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, superuser = encrypting.port, f"twofold:{encrypting.password}"
    root = f"sslrootcert={certificates['authority.pem']}"
    addresses = {
        "without TLS": f"{postgres.url()}?",
        "with TLS": f"postgresql://{superuser}@localhost:{port}/postgres?",
        "for TLS only": f"postgresql://encrypted:pw@localhost:{port}/postgres?",
        "not for TLS": f"postgresql://plain:pw@localhost:{port}/postgres?",
        "of the trusted authority": f"postgresql://{superuser}@localhost:{port}/postgres?{root}",
        "of the authority, misnamed": f"postgresql://{superuser}@127.0.0.1:{port}/postgres?{root}",
        "of another authority": (
            f"postgresql://{superuser}@localhost:{port}/postgres"
            f"?sslrootcert={certificates['other_authority.pem']}"
        ),
        "without the trusted TLS": f"{postgres.url()}?{root}",
        "of the system, misnamed": (
            f"postgresql://{superuser}@127.0.0.1:{port}/postgres?sslrootcert=system"
        ),
        "unknown to the system": (
            f"postgresql://{superuser}@localhost:{port}/postgres?sslrootcert=system"
        ),
    }
    if server == "of the system, misnamed":
        # OpenSSL's variable for the file with the system's authorities.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates["authority.pem"]))

    ended = [runner.run(outcome(f"{addresses[server]}&sslmode={mode}")) for mode in MODES]

    assert ended == outcomes


def test_the_authorities_of_the_system_are_those_of_openssl(
    encrypting: Postgres,
    certificates: Certificates,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates["authority.pem"]))
    url = encrypting.url().replace("127.0.0.1", "localhost")

    for parameters in ("sslmode=verify-full", "sslmode=verify-ca", "sslrootcert=system"):
        assert runner.run(outcome(f"{url}?{parameters}")) == "TLS"


@pytest.mark.parametrize("mode", MODES[:4])
def test_a_wrong_password_is_what_is_reported(
    mode: str, encrypting: Postgres, runner: asyncio.Runner
) -> None:
    # One way is closed to each of them, and the other one asks for a password.
    for role in ("encrypted", "plain"):
        url = f"postgresql://{role}:wrong@127.0.0.1:{encrypting.port}/postgres?sslmode={mode}"
        allowed = {"disable": "plain", "require": "encrypted"}.get(mode, role)
        error = (
            asyncpg.InvalidPasswordError
            if role == allowed
            else asyncpg.InvalidAuthorizationSpecificationError
        )

        with pytest.raises(error) as raised:
            runner.run(parse_database_url(url).connect(timeout=GIVE_UP))

        assert type(raised.value) is error


@pytest.mark.parametrize("mode", ["allow", "prefer"])
def test_a_silent_server_is_not_tried_twice(mode: str, runner: asyncio.Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://ada:pw@127.0.0.1:{port}/app?sslmode={mode}"

        with pytest.raises(TimeoutError):
            runner.run(parse_database_url(url).connect(timeout=0.2))

        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_an_expired_certificate_is_one_sentence(
    encrypting: Postgres, certificates: Certificates, runner: asyncio.Runner
) -> None:
    root = f"sslrootcert={certificates['authority.pem']}"
    url = f"{encrypting.url().replace('127.0.0.1', 'localhost')}?{root}"
    serve_certificate(encrypting, certificates["expired.pem"])
    try:
        with pytest.raises(CommandError, match="certificate has expired") as refused:
            migrate.upgrade(url)
        unchecked = runner.run(outcome(f"{encrypting.url()}?sslmode=require"))
    finally:
        serve_certificate(encrypting, certificates["server.pem"])

    assert "\n" not in str(refused.value)
    assert encrypting.password not in str(refused.value)
    assert unchecked == "TLS"


def serve_certificate(server: Postgres, certificate: Path) -> None:
    """Restart a server with another certificate for the same key."""
    (server.data / "server.crt").write_bytes(certificate.read_bytes())
    server.restart()


# --- Client certificates ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "ended"),
    [
        ("sslcert={client.pem}&sslkey={client.key}", "TLS"),
        ("sslcert={both.pem}", "TLS"),
        (f"sslcert={{encrypted.pem}}&sslkey={{encrypted.key}}&sslpassword={KEY_PASSWORD}", "TLS"),
        # The key is not encrypted: then the password is of no use, as in libpq.
        ("sslcert={client.pem}&sslkey={client.key}&sslpassword=unused", "TLS"),
        ("", "refused"),
        ("sslcert={other_client.pem}&sslkey={other_client.key}", "refused"),
        ("sslcert={stranger.pem}&sslkey={stranger.key}", "failed"),
    ],
)
@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_client_certificate_stands_for_its_role(
    parameters: str,
    ended: str,
    mode: str,
    encrypting: Postgres,
    certificates: Certificates,
    runner: asyncio.Runner,
) -> None:
    root = f"&sslrootcert={certificates['authority.pem']}" if mode == "verify-full" else ""
    url = f"postgresql://certified@localhost:{encrypting.port}/postgres?sslmode={mode}{root}"

    assert runner.run(outcome(f"{url}&{in_files(parameters, certificates)}")) == ended


@pytest.mark.parametrize("mode", ["allow", "prefer"])
def test_a_refused_certificate_is_what_is_reported(
    mode: str, encrypting: Postgres, certificates: Certificates, runner: asyncio.Runner
) -> None:
    files = in_files("sslcert={other_client.pem}&sslkey={other_client.key}", certificates)
    url = f"postgresql://certified@127.0.0.1:{encrypting.port}/postgres?sslmode={mode}&{files}"

    with pytest.raises(asyncpg.PostgresError, match="certificate authentication failed"):
        runner.run(parse_database_url(url).connect(timeout=GIVE_UP))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("sslcert={nowhere.pem}&sslkey={client.key}",
         "Its sslcert '{nowhere.pem}' cannot be read: No such file or directory."),
        ("sslcert={client.pem}&sslkey={nowhere.key}",
         "Its sslkey '{nowhere.key}' cannot be read: No such file or directory."),
        ("sslcert={.}", "Its sslcert '{.}' cannot be read: Is a directory."),
        ("sslcert={client.pem}&sslkey={server.key}",
         "Its sslkey '{server.key}' is not the key of its sslcert '{client.pem}'."),
        ("sslcert={encrypted.pem}&sslkey={encrypted.key}",
         "Its sslkey '{encrypted.key}' is encrypted: it needs an sslpassword."),
        ("sslcert={encrypted.pem}&sslkey={encrypted.key}&sslpassword=",
         "Its sslkey '{encrypted.key}' is encrypted: it needs an sslpassword."),
        ("sslcert={encrypted.pem}&sslkey={encrypted.key}&sslpassword=hunter2",
         "Its sslpassword does not open its sslkey '{encrypted.key}'."),
        ("sslcert={encrypted.pem}&sslkey={encrypted.key}&sslpassword=" + 300 * "hunter2",
         "Its sslpassword does not open its sslkey '{encrypted.key}'."),
        ("sslcert={client.pem}",
         "Its sslcert '{client.pem}' and sslkey '{client.pem}' are not a certificate and its key "
         "in PEM form."),
        ("sslcert={text.pem}&sslkey={client.key}",
         "Its sslcert '{text.pem}' and sslkey '{client.key}' are not a certificate and its key "
         "in PEM form."),
        ("sslkey={client.key}", "It has an sslkey or sslpassword, but no sslcert."),
        ("sslpassword=hunter2", "It has an sslkey or sslpassword, but no sslcert."),
        ("sslrootcert={nowhere.pem}",
         "Its sslrootcert '{nowhere.pem}' cannot be read: No such file or directory."),
        ("sslrootcert={text.pem}",
         "Its sslrootcert '{text.pem}' holds no certificate in PEM form."),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_sentence_without_a_secret(
    parameters: str,
    sentence: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"postgresql://ada:hunter2@db/app?{in_files(parameters, certificates)}"
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(SettingsError) as refused:
        load(dotenv=False)

    problems = [text for text in refused.value.problems if text.startswith("DATABASE_URL")]
    assert problems == [f"DATABASE_URL: {in_files(sentence, certificates)}"]
    assert "hunter2" not in str(refused.value)


def in_files(text: str, certificates: Certificates) -> str:
    """A text with the paths of the files that it names in braces."""
    return re.sub(r"\{(.+?)\}", lambda name: str(certificates[name[1]]), text)


# --- The service --------------------------------------------------------------------------


async def test_the_service_and_its_migrations_use_the_certificate(
    encrypting: Postgres,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await run_sql(encrypting.url(), "CREATE DATABASE served OWNER certified")
    files = in_files(
        "sslrootcert={authority.pem}&sslcert={client.pem}&sslkey={client.key}", certificates
    )
    url = f"postgresql://certified@localhost:{encrypting.port}/served?sslmode=verify-full&{files}"
    await run_sql(encrypting.url("served"), SESSION_TABLES)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "session_keys"))
    await asyncio.to_thread(upgrade, url)

    async with client_of(url) as client:
        sql = await asyncpg.connect(encrypting.url("served") + "?sslmode=disable")
        ada = await sign_in(sql, RestSurface(client), "ada")
        await sql.close()
        task = await ada.create_task("water the plants")
        ready = await client.get("/health/ready")

    assert task.title == "water the plants"
    assert ready.status_code == 200
    # Neither a connection nor anything else has written session keys.
    assert os.listdir(tmp_path) == []
