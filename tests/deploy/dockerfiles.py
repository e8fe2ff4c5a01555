"""Reads a Dockerfile, and runs its steps in folders of this machine, without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile: its name in capitals, and the rest of its lines as one."""

    name: str
    text: str


def steps(dockerfile: Path) -> list[Step]:
    """The instructions in order, without comments; lines that continue are joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Step(name.upper(), text) for name, text in parts]


def context(ignore: Path) -> set[Path]:
    """The files below the checkout that `.dockerignore` leaves for the build, relative to it."""
    rules = [line for line in ignore.read_text().splitlines() if line and line[0] != "#"]
    kept = [ROOT / rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert {*rules} - {f"!{path.relative_to(ROOT)}" for path in kept} - {
        f"**/{name}" for name in left_out
    } == {"*"}
    files = [path for each in kept for path in (each.rglob("*") if each.is_dir() else [each])]
    names = {path.relative_to(ROOT) for path in files if path.is_file()}
    return {name for name in names if not any(fnmatch(p, o) for p in name.parts for o in left_out)}


@dataclass(slots=True)
class Image:
    """What the last stage of a Dockerfile makes.

    Attributes:
        root: the folder that stands for the root of its file system.
        variables: its environment; folders of it are below ``root``.
    """

    root: Path
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = ""


def built(dockerfile: Path, home: Path, **arguments: str) -> Image:
    """Run every step. The base image is this machine with this Python.

    Args:
        home: an empty folder; each stage gets a folder of it.
        arguments: values of ``ARG``.
    """
    stages: dict[str, Image] = {}
    image = Image(home, home)
    for step in steps(dockerfile):
        words = shlex.split(step.text) if step.name in ("COPY", "ENV", "FROM") else []
        match step.name:
            case "FROM":
                name = words[2] if len(words) == 3 else "final"
                image = stages[name] = _stage(home / name)
            case "ARG":
                variable, _, value = step.text.partition("=")
                image.variables[variable] = arguments.get(variable, value)
            case "ENV":
                for word in words:
                    variable, _, value = word.partition("=")
                    image.variables[variable] = _below(image, _expanded(value, image.variables))
            case "WORKDIR":
                image.folder = image.root / step.text.lstrip("/")
                image.folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(words, image, stages)
            case "RUN":
                _run(image, step.text)
            case "CMD":
                image.command = json.loads(step.text)
            case "HEALTHCHECK":
                image.health = json.loads(step.text.partition(" CMD ")[2])
            case "USER":
                image.user = step.text
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case other:
                raise ValueError(f"The tests do not know {other}")
    return image


def _stage(root: Path) -> Image:
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    return Image(root, root, {"PATH": f"{programs}:/usr/bin:/bin"})


def _expanded(value: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda matching: variables[matching[1]], value)


def _below(image: Image, text: str) -> str:
    """A command or a value with the folders of the image in place of those of this machine."""
    return re.sub(r"(?<![\w/.])/opt/", f"{image.root}/opt/", text)


def _copy(words: list[str], image: Image, stages: dict[str, Image]) -> None:
    if words[0].startswith("--from="):
        other, source, target = stages[words[0].removeprefix("--from=")], words[1], words[2]
        shutil.copytree(
            other.root / source.lstrip("/"), image.root / target.lstrip("/"), symlinks=True
        )
        _relocate(image.root, other.root)
        return
    *sources, target = words
    files = context(ROOT / ".dockerignore")
    for source in map(Path, sources):
        matching = [path for path in files if path == source or source in path.parents]
        assert matching, f"{source} is not in the context"
        for path in matching:
            inside = path.relative_to(source) if path != source else Path(path.name)
            copy = image.folder / target / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy)


def _relocate(root: Path, before: Path) -> None:
    """Let programs name their interpreter in the new folder: in an image, the path stays."""
    for path in root.glob("opt/*/bin/*"):
        if path.is_file() and not path.is_symlink():
            path.write_text(path.read_text().replace(str(before), str(root)))


def _run(image: Image, command: str) -> None:
    network = {
        name: value
        for name, value in os.environ.items()
        if name.lower().endswith("_proxy") or name.startswith(("UV_", "PIP_", "SSL_"))
    }
    variables = network | {"UV_SYSTEM_CERTS": "1", "HOME": str(image.root)} | image.variables
    done = subprocess.run(
        ["sh", "-euc", _below(image, command)], cwd=image.folder, env=variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
