"""The folder of one PostgreSQL server (its home): where it lies, and who may use it.

A home holds the data, the password, the log and a lock file: one process at a time uses it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from persistence.embedded import accounts
from persistence.embedded.errors import EmbeddedError

if sys.platform != "win32":
    import fcntl

LOCK_TIMEOUT = 5.0
"""Seconds to wait for another process to release a home."""

_ABANDONED_AFTER = 3600
"""Seconds after which an unlocked temporary home is removed."""


def home_for(directory: Path) -> Path:
    """The home for ``directory``: that folder, or one that `nobody` can reach if root runs us."""
    directory = directory.resolve()
    if os.geteuid() != 0 or accounts.is_reachable(directory):
        return directory
    return accounts.SHARED_FOLDER / accounts.path_digest(directory)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A new home that is removed afterwards."""
    root = Path(tempfile.gettempdir())
    if os.geteuid() == 0 and not accounts.is_reachable(root / "any"):
        root = accounts.SHARED_FOLDER
        accounts.create_folder(root)
    _remove_abandoned(root)
    home = Path(tempfile.mkdtemp(prefix="twofold-", dir=root))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    """Remove the temporary homes of processes that were killed."""
    for lock in root.glob("twofold-*/lock"):
        with suppress(OSError):
            status = lock.stat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _ABANDONED_AFTER:
                continue
            with lock.open("r+") as file:
                if _try_lock(file.fileno()):
                    shutil.rmtree(lock.parent, ignore_errors=True)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of a home. The kernel releases it when this process ends, even if killed.

    Raises:
        EmbeddedError: another process holds it for longer than LOCK_TIMEOUT.
    """
    with open(os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not _try_lock(lock.fileno()):
            # A process that was just stopped may still be stopping its server.
            if time.monotonic() > deadline:
                holder = lock.read().strip()
                raise EmbeddedError(
                    f"The PostgreSQL in {home} is already run by process {holder}"
                    " (another `twofold dev`?): stop that first."
                )
            time.sleep(0.05)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
