"""The table of what is written by hand, in docs/architecture.md, counts the lines of its files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTER = "## What is written by hand, and why"


def rows() -> list[list[str]]:
    """The cells of each row."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition(CHAPTER)[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def lines_of(piece: str) -> int:
    """The lines of a piece: of the files, the folder, or the parts of a file that it names."""
    code = re.findall(r"`([\w./]+)`", piece)
    paths = [ROOT / name for name in code if "/" in name]
    names = [name for name in code if "/" not in name and name.endswith(".py")]
    if names:
        [folder] = paths
        return sum(length(folder / name) for name in names)
    if parts := re.search(r"((?:`\w+`(?:,| and)? )+)in `", piece):
        [file] = paths
        return sum(
            length_of_part(file, name)
            for name in re.findall(r"\w+", parts[1].replace(" and ", " "))
        )
    [place] = paths
    return length(place) if place.is_file() else sum(map(length, place.rglob("*.py")))


def length(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def length_of_part(file: Path, name: str) -> int:
    """The lines of a function or a constant of a module."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = getattr(node, "target", None)
        if name in (getattr(node, "name", ""), getattr(target, "id", "")):
            return (node.end_lineno or 0) - node.lineno + 1
    raise AssertionError(f"{file} has no {name}")


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].partition(":")[0])
def test_a_piece_has_the_lines_that_the_table_says(row: list[str]) -> None:
    piece, lines, _, _ = row
    number = re.match(r"[\d,]+", lines)
    assert number, row

    there = lines_of(piece)

    # Rounded, so that not every change of a file is one of the document.
    assert abs(int(number[0].replace(",", "")) - there) <= max(10, there / 20), there


def test_each_piece_has_a_figure_or_a_test_and_what_would_be_lost() -> None:
    assert len(rows()) >= 15
    assert [row for row in rows() if not re.search(r"[\d⁴]", row[2]) or not row[3]] == []
