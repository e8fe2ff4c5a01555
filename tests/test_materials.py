"""The bill of materials and the notices: current, complete and the same on every run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from supply.materials import FILES, main, materials
from tests.conftest import ROOT

# Some packages are needed by some versions of Python only.
made_with_3_11 = pytest.mark.skipif(
    not (3, 11, 3) <= sys.version_info < (3, 12),
    reason="the committed files are made with Python 3.11, from 3.11.3 on",
)


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    text = (ROOT / "sbom.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@made_with_3_11
def test_the_committed_bill_and_notices_are_current() -> None:
    assert main(["--check"]) == 0


def test_both_are_written_and_a_difference_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path) == main(["--check"], tmp_path) == 0
    (tmp_path / "sbom.json").write_text("{}")

    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.startswith("sbom.json differs")
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


@made_with_3_11
def test_the_python_packages_are_those_of_the_lock_for_servers(bill: dict[str, Any]) -> None:
    lock = (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8")
    lines = re.findall(r"^(\w[^\\\n]*)", lock, re.MULTILINE)
    requirements = [Requirement(line.strip()) for line in lines]
    locked = {
        f"pkg:pypi/{each.name}@{str(each.specifier).removeprefix('==')}"
        for each in requirements
        if each.marker is None or each.marker.evaluate()
    }

    purls = {each["purl"] for each in bill["components"]}
    assert {purl for purl in purls if purl.startswith("pkg:pypi/")} == locked
    assert {purl for purl in purls if purl.startswith("pkg:npm/swagger-ui-dist@")}


def test_the_bill_has_no_time_no_host_and_no_path() -> None:
    text = (ROOT / "sbom.json").read_text(encoding="utf-8")

    assert re.findall(r"timestamp|serialNumber|\d{4}-\d\d-\d\dT|/home/|/tmp/", text) == []
    assert set(re.findall(r"https?://[^/\"]+", text)) == {"http://cyclonedx.org"}


def test_every_reference_of_the_bill_is_a_component_of_it(bill: dict[str, Any]) -> None:
    components = {each["bom-ref"] for each in bill["components"]}
    references = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}

    assert len(components) == len(bill["components"])
    assert set(references) == components | {bill["metadata"]["component"]["bom-ref"]}
    assert {name for needed in references.values() for name in needed} <= components
    assert all(len(set(needed)) == len(needed) for needed in references.values())


def test_every_component_has_a_licence_and_its_text() -> None:
    without = [each.name for each in materials() if "not declared" in each.licence or not each.text]

    assert without == []
