"""A shell that is set up for another database changes nothing here, nor does its home folder."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from subprocess import run

import asyncpg
import pytest

from persistence.embedded.postgres import Postgres
from persistence.embedded.private_files import write_private
from persistence.redis_url import parse_redis_url
from persistence.urls import parse_database_url
from tests.conftest import ROOT, new_database, run_sql
from tests.people import SESSION_TABLES
from tests.servers import served
from tests.shells import DRIVER_VARIABLES, hostile_environment, unreadable_home


async def session(url: str) -> tuple[object, ...]:
    """Who and where a connection is, and the settings that variables could change."""
    connection = await parse_database_url(url).connect(timeout=5)
    try:
        return tuple(
            await connection.fetchrow(
                """
                SELECT current_user::text, current_database()::text, inet_server_port(),
                    current_setting('application_name'), current_setting('client_encoding'),
                    current_setting('timezone'), current_setting('default_transaction_read_only')
                """
            )
        )
    finally:
        await connection.close()


def test_the_driver_has_the_variables_that_are_tried() -> None:
    known = {"PGHOST", "PGSSLMODE", "PGTARGETSESSIONATTRS", "PGKRBSRVNAME", "SSLKEYLOGFILE"}

    assert known < {*DRIVER_VARIABLES}
    assert len(DRIVER_VARIABLES) >= 20


@pytest.mark.parametrize("name", DRIVER_VARIABLES)
async def test_no_variable_of_the_driver_changes_a_connection(
    name: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await session(postgres.url())
    # Where a relative path among the values would be created.
    monkeypatch.chdir(tmp_path)

    for value in ("nonsense", "1", "verify-full", "standby", "direct"):
        monkeypatch.setenv(name, value)
        assert await session(postgres.url()) == before
    assert os.listdir(tmp_path) == []


async def test_a_hostile_shell_changes_no_connection(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await session(postgres.url())
    for name, value in hostile_environment(unreadable_home(tmp_path)).items():
        monkeypatch.setenv(name, value)

    assert await session(postgres.url()) == before


# --- What the URL leaves open -------------------------------------------------------------


async def test_a_host_that_the_url_leaves_open_is_this_machine(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    url = f"postgresql://twofold:{postgres.password}@:{postgres.port}/postgres"

    assert (await session(url))[2] == postgres.port


async def test_a_port_that_the_url_leaves_open_is_5432(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", str(postgres.port))

    # Nothing listens there, or a server that knows no such password.
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await session(f"postgresql://twofold:{postgres.password}@127.0.0.1/postgres")


async def test_a_user_that_the_url_leaves_open_is_the_account(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGUSER", "LOGNAME", "USER"):
        monkeypatch.setenv(name, "twofold")
    url = f"postgresql://:{postgres.password}@127.0.0.1:{postgres.port}/postgres"

    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await session(url)


async def test_a_password_that_the_url_leaves_open_is_none(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / ".pgpass"
    write_private(passwords, f"*:*:*:*:{postgres.password}\n")
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    monkeypatch.setenv("HOME", str(tmp_path))
    url = f"postgresql://twofold@127.0.0.1:{postgres.port}/postgres"

    with pytest.raises(asyncpg.InvalidPasswordError):
        await session(url)
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await session(url)


# --- The home folder ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["allow", "prefer"])
async def test_a_home_folder_that_cannot_be_read_is_no_obstacle(
    mode: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    for home in (unreadable_home(tmp_path), closed, Path("/dev/null"), Path("/" + 300 * "x")):
        monkeypatch.setenv("HOME", str(home))

        assert (await session(f"{postgres.url()}?sslmode={mode}"))[0] == "twofold"


@pytest.mark.parametrize("name", ["root.crt", "root.crl", "postgresql.crt", "postgresql.key"])
async def test_no_file_of_the_home_folder_is_used(
    name: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / name).write_text("nonsense")
    monkeypatch.setenv("HOME", str(tmp_path))

    # asyncpg's own connections stop at these files, even where the server has no TLS.
    for mode in ("allow", "prefer"):
        assert (await session(f"{postgres.url()}?sslmode={mode}"))[0] == "twofold"


# --- The commands -------------------------------------------------------------------------


async def test_the_service_and_its_migrations_run_in_a_hostile_shell(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = await new_database(postgres, "hostile_shell")
    await run_sql(url, SESSION_TABLES)
    environment = hostile_environment(unreadable_home(tmp_path))

    migrated = await asyncio.to_thread(
        run,
        [sys.executable, "-m", "api.cli", "migrate"],
        cwd=ROOT,
        env=os.environ | environment | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
    )
    async with served(url, **environment) as (client, _):
        ready = await client.get("/health/ready")
        stranger = await client.get("/tasks", headers={"Authorization": "Bearer nobody"})

    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert (ready.status_code, stranger.status_code) == (200, 401)


def test_the_keys_of_redis_sessions_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "session_keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))

    context = parse_redis_url("rediss://127.0.0.1").tls

    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    # OpenSSL creates the file as soon as a context has its name.
    assert not keys.exists()
