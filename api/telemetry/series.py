"""Metrics in a file for each process, from which another process reads them.

A worker adds to numbers at fixed places of a mapped file: that costs as much as adding to a list.
The process that answers ``/metrics`` reads the files of all workers and adds them up; what ended
workers have counted is kept. The file begins with a description of its numbers, so that a parent
also understands workers of a newer release.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

FOLDER_VARIABLE: Final = "TWOFOLD_METRICS"
"""The environment variable with which `twofold serve` tells its workers where to count."""

SUFFIX: Final = ".metrics"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics with one name.

    Attributes:
        kind: as Prometheus names it.
        labels: the sets of labels that there are: all of them are known at the start.
        buckets: of a histogram: the upper bounds.
        combine: how the numbers of several workers become one.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Sequence[Labels] = ((),)
    buckets: tuple[float, ...] = ()
    combine: Literal["sum", "max"] = "sum"

    @property
    def width(self) -> int:
        """The numbers of one set of labels: of a histogram its buckets, the rest and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


class Sheet:
    """The numbers of one process.

    Args:
        folder: where the file is created.
        families: what is counted.

    Attributes:
        values: the numbers. Each set of labels begins at the place that ``place`` returns.
    """

    def __init__(self, folder: Path, families: Sequence[Family]) -> None:
        self._places: dict[tuple[str, Labels], int] = {}
        self._families = {family.name: family for family in families}
        total = 0
        for family in families:
            for labels in family.labels:
                self._places[family.name, labels] = total
                total += family.width
        head = _head(families)
        # A cleaner of temporary files may have removed it. Without it no worker could start.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        hidden = folder / f"{name}.new"
        # Open for as long as the process: its lock says that the process runs.
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, head + bytes(8 * total))
        _lock(descriptor)
        hidden.rename(folder / f"{name}{SUFFIX}")
        mapped = mmap.mmap(descriptor, 0)
        self.values = memoryview(mapped)[len(head) :].cast("d")

    def place(self, name: str, **labels: str) -> int:
        """The place of a set of labels."""
        return self._places[name, tuple(labels.items())]

    def observe(self, name: str, value: float) -> None:
        """Add to a histogram without labels."""
        buckets, place = self._families[name].buckets, self._places[name, ()]
        self.values[place + bisect_left(buckets, value)] += 1
        self.values[place + len(buckets) + 1] += value


def _head(families: Sequence[Family]) -> bytes:
    """The description, as one line, whose length is a multiple of the numbers'."""
    described = [
        [each.name, each.help, each.kind, list(each.labels), list(each.buckets), each.combine]
        for each in families
    ]
    line = json.dumps(described, separators=(",", ":")).encode()
    return line + b" " * (-(len(line) + 1) % 8) + b"\n"


def _lock(descriptor: int) -> bool:
    """Lock a file; return whether nobody else has. The system unlocks it when a process ends."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Collector:
    """Adds up the files of a folder.

    Args:
        folder: where workers create their files. Those of workers that ended are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended: dict[str, tuple[Family, dict[Labels, list[float]]]] = {}

    def text(self) -> str:
        """All metrics, in Prometheus's text format."""
        totals = {
            name: (family, {labels: [*numbers] for labels, numbers in each.items()})
            for name, (family, each) in self._ended.items()
        }
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with path.open("r+b") as file:
                sheet, has_ended = [*_read(file)], _lock(file.fileno())
            if has_ended:
                path.unlink()
                _add(self._ended, (each for each in sheet if each[0].kind != "gauge"))
                sheet = [each for each in sheet if each[0].kind != "gauge"]
            _add(totals, sheet)
        lines: list[str] = []
        for family, numbers in totals.values():
            lines += _lines(family, numbers)
        return "\n".join([*lines, ""])


Read = tuple[Family, dict[Labels, list[float]]]


def _read(file: IO[bytes]) -> Iterator[Read]:
    head = file.readline()
    values, place = memoryview(file.read()).cast("d"), 0
    for name, text, kind, labels, buckets, combine in json.loads(head):
        all_labels = [tuple((key, value) for key, value in each) for each in labels]
        family = Family(name, text, kind, all_labels, tuple(buckets), combine)
        numbers: dict[Labels, list[float]] = {}
        for each in all_labels:
            numbers[each] = [*values[place : place + family.width]]
            place += family.width
        yield family, numbers


def _add(totals: dict[str, Read], sheet: Any) -> None:
    for family, numbers in sheet:
        _, total = totals.setdefault(family.name, (family, {}))
        for labels, values in numbers.items():
            before = total.get(labels)
            # Another release may have other buckets: the newer numbers replace the older ones.
            if before is None or len(before) != len(values):
                total[labels] = values
            elif family.combine == "max":
                total[labels] = [max(pair) for pair in zip(before, values, strict=True)]
            else:
                total[labels] = [sum(pair) for pair in zip(before, values, strict=True)]


def _lines(family: Family, numbers: dict[Labels, list[float]]) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, values in numbers.items():
        if family.kind != "histogram":
            yield f"{family.name}{_braces(labels)} {values[0]:.17g}"
            continue
        *counts, total = values
        if not sum(counts) and labels:
            continue  # Most routes never have most statuses.
        count = 0.0
        for bound, more in zip((*family.buckets, "+Inf"), counts, strict=True):
            count += more
            yield f"{family.name}_bucket{_braces((*labels, ('le', str(bound))))} {count:.17g}"
        yield f"{family.name}_count{_braces(labels)} {count:.17g}"
        yield f"{family.name}_sum{_braces(labels)} {total:.17g}"


def _braces(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
