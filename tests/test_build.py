"""Which build runs: its version and its commit."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.telemetry.build import commit_of
from tests.conftest import new_client, settings_of_tests

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "x")
    return folder


def test_the_commit_of_a_checkout_is_the_one_that_git_says(checkout: Path) -> None:
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_a_packed_branch_is_found(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")

    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_a_detached_head_is_found(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "--detach")

    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_a_further_working_tree_is_found(checkout: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", "../second")
    second = checkout.parent / "second"
    git(second, "commit", "--quiet", "--allow-empty", "--message", "y")

    assert commit_of(second) == git(second, "rev-parse", "HEAD")
    assert commit_of(second) != commit_of(checkout)


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None


async def test_health_says_which_build_runs(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json()["version"] == version("twofold")


async def test_the_commit_can_be_set() -> None:
    app = create_app(settings_of_tests(database_url="postgresql://a@b/c", build_commit=COMMIT))
    async with new_client(app) as client:
        assert (await client.get("/health")).json()["commit"] == COMMIT
