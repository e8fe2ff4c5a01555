"""The command `twofold migrate`."""

from __future__ import annotations

import pytest

from api import cli
from tests.cli.terminal import NOWHERE


def test_migrate_says_which_setting_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["migrate"]) == 2
    assert capsys.readouterr().err.startswith("DATABASE_URL is not set")


def test_migrate_needs_nothing_but_a_database_that_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", NOWHERE)

    code = cli.main(["migrate"])

    output = capsys.readouterr().err
    assert code == 1
    assert output.startswith("The database could not be migrated: ")
    assert output.count("\n") == 1
    assert "ever" not in output
