"""Creating a PostgreSQL data folder, and the password of its superuser."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from persistence.embedded import binaries, processes
from persistence.embedded.errors import EmbeddedError
from persistence.embedded.private_files import read_or_create, write_private

SUPERUSER: Final = "twofold"


def initialize(home: Path, programs: Path, account: processes.Account | None) -> None:
    """Create ``home / "data"`` completely or not at all.

    An earlier attempt that was interrupted is removed first.

    Args:
        home: the folder of the server.
        programs: the folder with ``initdb``.
        account: the account that will own the data; None is the current one.

    Raises:
        EmbeddedError: ``initdb`` failed; the message quotes its output.
    """
    draft = home / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = home / "password.new"
    password.unlink(missing_ok=True)
    write_private(password, read_password(home))
    if account:
        os.chown(draft, account.uid, account.gid)
        os.chown(password, account.uid, account.gid)
    command: list[str | Path] = [
        programs / "initdb", "-D", draft, "--username", SUPERUSER, "--auth", "scram-sha-256",
        "--pwfile", password, "--encoding", "UTF8", "--no-instructions",
    ]  # fmt: skip
    try:
        _run_initdb(command, _locales(programs), account)
    finally:
        password.unlink()
    draft.rename(home / "data")


def read_password(home: Path) -> str:
    """The superuser's password; created with the first call, before there are data.

    Raises:
        EmbeddedError: there are data, but no password.
    """
    path = home / "password"
    if (home / "data").exists() and not path.exists():
        raise EmbeddedError(f"{path} is missing, and {home / 'data'} is useless without it.")
    return read_or_create(path, lambda: secrets.token_urlsafe(24))


def _run_initdb(
    command: list[str | Path], locales: list[list[str]], account: processes.Account | None
) -> None:
    for locale in locales:
        result = processes.run([*command, *locale], account)
        if result.returncode == 0:
            return
    raise EmbeddedError(f"initdb failed:\n{result.stdout.decode(errors='replace')[-2000:]}")


def _locales(programs: Path) -> list[list[str]]:
    """The options to try, in this order, for text that is compared as Unicode code points."""
    if (binaries.major_version(programs) or 0) >= 17:
        return [["--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]]
    # Not every system has glibc's C.UTF-8.
    return [["--locale", "C.UTF-8"], ["--locale", "C"]]
