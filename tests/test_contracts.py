"""The command that writes and checks the committed contracts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api.commands.contracts import CONTRACTS, main
from tests.conftest import ROOT

NAMES = sorted(CONTRACTS)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the committed contracts."""
    for contract in CONTRACTS.values():
        copy = tmp_path / contract.path
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / contract.path).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_contract_equals_the_code(name: str) -> None:
    assert main([name, "--check"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_check_names_the_file_that_differs_and_leaves_it_alone(
    name: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CONTRACTS[name].path
    (checkout / path).write_text("outdated")

    exit_code = main([name, "--check"], checkout)

    assert exit_code == 1
    assert capsys.readouterr().err == f"{path} differs from the code. Run: make {name}\n"
    assert (checkout / path).read_text() == "outdated"


@pytest.mark.parametrize("name", NAMES)
def test_writing_restores_the_committed_bytes(name: str, checkout: Path) -> None:
    path = CONTRACTS[name].path
    (checkout / path).write_text("outdated")

    assert main([name], checkout) == 0
    assert (checkout / path).read_bytes() == (ROOT / path).read_bytes()


def test_the_makefile_has_a_target_for_every_contract() -> None:
    makefile = (ROOT / "Makefile").read_text()

    for name in NAMES:
        assert f"\n{name}: .venv/installed" in makefile
        assert makefile.count(f"-m api.commands.contracts {name}\n") == 1
        assert makefile.count(f"-m api.commands.contracts {name} --check\n") == 1


def test_no_module_of_rest_imports_the_app() -> None:
    program = "import sys, rest.openapi; sys.exit('api.app' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
