"""The command `twofold version`."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from api import cli


def test_the_command_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"twofold {version('twofold')}\n"
