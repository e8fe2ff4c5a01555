"""Files that only the current user may read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Create a file with mode 0600.

    Raises:
        FileExistsError: the file exists.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def read_or_create(path: Path, create: Callable[[], str]) -> str:
    """Read a private file; if it does not exist, first write into it what ``create`` returns."""
    if not path.exists():
        write_private(path, create())
    return path.read_text()
