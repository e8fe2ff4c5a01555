"""Which build runs here, and which of its processes."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

_ROOT: Final = Path(__file__).parent.parent.parent

UNKNOWN: Final = "unknown"
"""The commit of an installed wheel, unless ``BUILD_COMMIT`` names it."""


class Build(NamedTuple):
    """What was built.

    Attributes:
        version: of the distribution.
        commit: the Git commit, in hexadecimal digits, or ``UNKNOWN``.
    """

    version: str
    commit: str


def build_of(commit: str | None) -> Build:
    """The build of this process.

    Args:
        commit: from the settings; ``None`` for the checkout's, if it is one.
    """
    return Build(version("twofold"), commit or commit_of(_ROOT) or UNKNOWN)


def instance_name() -> str:
    """``host/process id``. Of containers, the host is the container's id."""
    return f"{socket.gethostname()[:64]}/{os.getpid()}"


def commit_of(checkout: Path) -> str | None:
    """The commit that a checkout has, read from Git's files; ``None`` if it is no checkout."""
    try:
        folder = checkout / ".git"
        if folder.is_file():  # A further working tree.
            folder = checkout / folder.read_text().removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        reference = head.removeprefix("ref:").strip()
        shared = folder / "commondir"
        common = folder / shared.read_text().strip() if shared.exists() else folder
        if (file := common / reference).exists():
            return file.read_text().strip()
        for line in (common / "packed-refs").read_text().splitlines():
            if line.endswith(f" {reference}"):
                return line.split()[0]
    except OSError:
        pass
    return None
