"""The command `twofold check`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from api import cli
from tests.cli.terminal import NOWHERE, SECRET
from tests.conftest import run_sql


@pytest.mark.usefixtures("usable")
def test_check_shows_the_settings_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["check"])

    output = capsys.readouterr()
    assert code == 0
    assert re.search(r"^ENVIRONMENT +development$", output.out, re.MULTILINE)
    assert re.search(r"^SESSION_HASH_SECRET +\*{8}$", output.out, re.MULTILINE)
    assert SECRET not in output.out + output.err
    assert "ever" not in output.out + output.err


def test_check_names_everything_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_HASH_SECRET", "short-and-secret")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")

    code = cli.main(["check"])

    output = capsys.readouterr()
    assert code == 2
    assert re.search(r"^LOG_LEVEL +LOUD$", output.out, re.MULTILINE)
    assert "DATABASE_URL: " in output.err
    assert "SESSION_HASH_SECRET: " in output.err
    assert "LOG_LEVEL: " in output.err
    assert "short-and-secret" not in output.out + output.err


def test_check_reads_the_env_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text(f"DATABASE_URL={NOWHERE}\nSESSION_HASH_SECRET={SECRET}\n")

    assert cli.main(["check"]) == 0


@pytest.mark.usefixtures("usable")
def test_check_shows_and_checks_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = cli.main(["check"]), capsys.readouterr().out
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    wrong = cli.main(["check"]), capsys.readouterr().err

    assert (right[0], wrong[0]) == (0, 2)
    assert re.search(r"^WEB_CONCURRENCY +1$", right[1], re.MULTILINE)
    assert re.search(r"^SQLALCHEMY_POOL_SIZE +3$", right[1], re.MULTILINE)
    assert wrong[1] == "WEB_CONCURRENCY: 'many' is not a whole number.\n"


@pytest.mark.usefixtures("usable")
def test_check_knows_a_slip_from_somebody_elses_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slips = {"RATE_LIMIT_REED": "RATE_LIMIT_READ", "DATABASE_URI": "DATABASE_URL",
             "GRAPHQL_MAX_PAGESIZE": "GRAPHQL_MAX_PAGE_SIZE"}  # fmt: skip
    for name in (*slips, "BETTER_AUTH_SECRET", "BETTER_AUTH_URL", "DATABASE_URL_UNPOOLED",
                 "SESSION_SECRET", "REDIS_HOST", "rate_limit_read", "PORTT"):  # fmt: skip
        monkeypatch.setenv(name, "7/hour")
    Path(".env").write_text("ENVIROMENT=production\nOTHERS=1\nBETTER_AUTH_SECRET=theirs\n")

    code = cli.main(["check"])

    output = capsys.readouterr().out
    assert code == 0
    assert re.findall(
        r"^Note: (\S+) is not a setting; (\S+) is\.$", output, re.MULTILINE
    ) == sorted((slips | {"ENVIROMENT": "ENVIRONMENT"}).items())


@pytest.fixture
async def of_50_connections(database_url: str) -> str:
    """The URL of a role that may open 50 connections."""
    await run_sql(
        database_url,
        "DROP ROLE IF EXISTS fifty; CREATE ROLE fifty LOGIN PASSWORD 'fifty' CONNECTION LIMIT 50",
    )
    return re.sub(r"//\S+@", "//fifty:fifty@", database_url)


def checked(
    capsys: pytest.CaptureFixture[str], *arguments: str, **variables: str
) -> tuple[int, str, str]:
    """What `twofold check` returns and says, with these variables."""
    os.environ.update({"SESSION_HASH_SECRET": SECRET, **variables})
    code = cli.main(["check", *arguments])
    return code, *capsys.readouterr()


POOL = {
    "WEB_CONCURRENCY": "2",
    "SQLALCHEMY_POOL_SIZE": "5",
    "SQLALCHEMY_MAX_OVERFLOW": "3",
}


def test_check_computes_the_connections_of_an_instance_without_a_database(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said, _ = checked(capsys, DATABASE_URL=NOWHERE, **POOL)

    assert code == 0
    assert "An instance opens at most 16 connections to PostgreSQL: 2 x (5 + 3)" in said
    assert said.endswith("The settings are valid. No connection was tried.\n")


def test_check_compares_the_connections_with_what_the_database_allows(
    capsys: pytest.CaptureFixture[str], of_50_connections: str
) -> None:
    two = checked(capsys, "--instances", "1", DATABASE_URL=of_50_connections, **POOL)
    four = checked(capsys, "--instances", "3", DATABASE_URL=of_50_connections, **POOL)

    assert (two[0], four[0]) == (0, 0)
    assert "1 x 16 = 16; 32 during a deploy" in two[1]
    assert "The database allows this role 50 (max_connections is 100, of which 3 are" in two[1]
    assert "Warning" not in two[1]
    assert "Warning: 64 connections are more than the 50 that are left." in four[1]


def test_check_says_that_a_pooler_has_limits_of_its_own(
    capsys: pytest.CaptureFixture[str], of_50_connections: str
) -> None:
    url = f"{of_50_connections}?pgbouncer=true"
    code, said, _ = checked(capsys, "--instances", "9", DATABASE_URL=url, **POOL)

    assert code == 0
    assert "leads through a pooler" in said
    assert "max_client_conn for the 160" in said
    assert "Warning" not in said


def test_check_says_that_the_database_could_not_be_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, error = checked(capsys, "--instances", "1", DATABASE_URL=NOWHERE)

    assert code == 1
    assert error.startswith("The database could not be asked: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_check_wants_a_number_of_instances(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--instances", number])

    assert ended.value.code == 2
    assert "--instances" in capsys.readouterr().err
