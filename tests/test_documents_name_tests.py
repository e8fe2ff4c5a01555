"""Every test and file that the documents, the Makefile and the CI script name exists."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.settings import setting_names

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

TEST = re.compile(r"`(test_\w+)`")
CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`((?:api|benchmarks|graphql_schema|persistence|rest|tests|alembic)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")


def names_of_tests() -> set[str]:
    """Every test function in the folder of tests."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def unknown(named: list[str], existing: set[str]) -> list[str]:
    return sorted(set(named) - existing)


def anchors(document: Path) -> set[str]:
    """The headings of a document as links name them."""
    lines = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_every_test_that_a_document_names_exists() -> None:
    named = [name for path in DOCUMENTS for name in TEST.findall(path.read_text(encoding="utf-8"))]

    assert unknown(named, names_of_tests()) == []
    assert len(set(named)) >= 40


def test_every_promise_of_security_names_its_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## OWASP ASVS")[0].split("\n- ")[1:]

    assert [promise for promise in promises if not TEST.search(promise)] == []
    assert len(promises) >= 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_heading_that_a_document_names_exists(document: Path) -> None:
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    files = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    links = [
        f"{name}#{anchor}"
        for name, anchor in LINK.findall(text)
        for target in [document.parent / name if name else document]
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]

    assert (files, links) == ([], [])


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_test_file_that_a_stage_of_ci_runs_exists() -> None:
    # As make expands it: a test file that has moved would make its stage run nothing at all.
    targets = re.findall(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))[0]
    expanded = subprocess.run(
        ["make", "--always-make", "--just-print", *targets.split()],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    named = re.findall(r"(?<=\s)tests/\w+(?:/\w+)*(?:\.py)?(?=[\s:]|$)", expanded + script)

    assert sorted({name for name in named if not (ROOT / name).exists()}) == []
    assert len(set(named)) >= 20


def test_every_setting_is_documented_and_no_other_is() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[A-Z].*?) \|", text, re.MULTILINE)
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == setting_names()
    assert {name for name in setting_names() if name not in example} <= {"DEMO_TOKEN"}


def test_a_name_of_no_test_is_found() -> None:
    assert unknown(TEST.findall("`test_of_nothing`"), names_of_tests()) == ["test_of_nothing"]
