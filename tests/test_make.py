"""`make` in checkouts as they are treated: copied, moved, without their Python, behind a proxy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import ROOT

# They need the package index, as `make` does.
pytestmark = pytest.mark.slow

LOCKED: Final = (
    "uv",
    "hatchling",
    "packaging",
    "pathspec",
    "pluggy",
    "tomlkit",
    "trove-classifiers",
)
"""What an editable installation needs, and nothing else: seconds in place of a minute."""


def make(
    checkout: Path, *arguments: str, fails: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Make the environment of a checkout."""
    done = subprocess.run(
        ["make", ".venv/installed", *arguments], cwd=checkout, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done


def source_of(checkout: Path) -> Path:
    """The folder whose code a checkout's command runs."""
    python = checkout / ".venv/bin/python"
    code = "import api, pathlib; print(pathlib.Path(api.__file__).parent.parent)"
    printed = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True)
    assert (checkout / ".venv/bin/twofold").read_text().splitlines()[0].startswith("#!")
    return Path(printed.stdout.strip())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with an environment, and few packages."""
    checkout = tmp_path_factory.mktemp("checkouts") / "original"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for package in ("api", "alembic", "graphql_schema", "persistence", "rest"):
        (checkout / package).mkdir()
        (checkout / package / "__init__.py").touch()
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    kept = [entry for entry in entries if entry.partition("==")[0] in LOCKED]
    (checkout / "requirements.lock").write_text("".join(kept))
    make(checkout)
    return checkout


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of it, made with `cp -a`."""
    subprocess.run(["cp", "-a", original, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


@pytest.fixture
def resident(original: Path, copy: Path) -> Path:
    """The copy, as if its environment had been made there."""
    command = copy / ".venv/bin/twofold"
    command.write_text(command.read_text().replace(str(original), str(copy)))
    return copy


def test_an_environment_that_is_right_is_kept(original: Path) -> None:
    before = (original / ".venv/pyvenv.cfg").stat().st_mtime_ns
    done = make(original)

    assert "anew" not in done.stdout
    assert (original / ".venv/pyvenv.cfg").stat().st_mtime_ns == before
    assert source_of(original) == original


def test_a_copy_runs_its_own_code(original: Path, copy: Path) -> None:
    assert source_of(copy) == original
    done = make(copy)

    assert ".venv is a copy, was moved, or its Python is gone or too old" in done.stdout
    assert source_of(copy) == copy


def test_a_checkout_that_was_moved_runs(copy: Path) -> None:
    moved = copy.rename(copy.with_name("a name with spaces"))
    make(moved)

    assert source_of(moved) == moved


def test_an_environment_without_its_python_is_made_anew(resident: Path) -> None:
    for name in (".venv/bin/python", ".venv/bin/python3"):
        (resident / name).unlink()
        (resident / name).symlink_to("/nowhere/python3")
    make(resident)

    assert source_of(resident) == resident


def test_a_python_that_cannot_be_used_is_refused_in_a_sentence(copy: Path) -> None:
    done = make(copy, "PYTHON=/bin/false", fails=True)

    assert "Twofold needs Python 3.11 or newer, with venv; /bin/false is none" in done.stderr
    # It did not remove the environment that was there.
    assert (copy / ".venv/bin/uv").exists()


def test_a_home_that_cannot_be_written_is_none_of_uvs_concern(copy: Path) -> None:
    make(copy, HOME="/dev/null", XDG_CACHE_HOME="")

    assert (copy / ".venv/cache").is_dir()
    assert source_of(copy) == copy


def test_only_a_missing_wheel_is_a_reason_for_a_second_attempt(resident: Path) -> None:
    with (resident / "requirements.lock").open("a") as lock:
        # It has wheels for Windows only.
        lock.write(f"pywin32==310 --hash=sha256:{'0' * 64}\n")
    failed = make(
        resident, fails=True, UV_DEFAULT_INDEX="https://127.0.0.1:9/simple", UV_HTTP_RETRIES="0",
        UV_CACHE_DIR=str(resident / "empty"),
    )  # fmt: skip
    succeeded = make(resident, "SERVERS=pywin32")

    assert "Connection refused" in failed.stderr
    assert "Trying again" not in failed.stdout
    assert "has no wheels with a matching" in succeeded.stderr
    assert "Trying again without the servers that come as wheels" in succeeded.stdout
