"""The benchmarks still run. They measure; no test asserts a time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.service import FASTIFY
from tests.programs import require, what_is_missing


def test_the_table_has_a_figure_for_every_operation_of_both_protocols() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "0.01"], capture_output=True, text=True, check=False
    )

    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.split("\n\n")[0].splitlines()
    [titles, _, *rows] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {row[0] for row in rows} >= {"get one", "list 1000", "GraphQL list 1000", "create"}
    for row in rows:
        figures = dict(zip(titles[1:], map(float, row[1:]), strict=True))
        assert figures["p99 ms"] >= figures["p50 ms"] > 0


@pytest.mark.node
def test_the_service_is_measured_beside_fastify() -> None:
    require(what_is_missing(FASTIFY), "TWOFOLD_REQUIRE_NODE")
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.beside_fastify", "0.01"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert "| GraphQL create |" in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argument"),
    [
        ("protocols", "0.1"),
        ("budget", "0.1"),
        ("latency", "1"),
        ("live", "0.01"),
        ("compiled", "0.1"),
        ("scale", "1000"),
        ("request_log", "0.01"),
        ("telemetry", "0.01"),
    ],
)
def test_the_other_benchmarks_run(module: str, argument: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", argument],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout
