"""The account that PostgreSQL runs as, and the folders that this account can reach.

PostgreSQL refuses to run as root. If root starts it, it runs as the user `nobody`, who often has
no access to the folder of the checkout or to the installed binaries.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from persistence.embedded.errors import EmbeddedError
from persistence.embedded.processes import Account

if sys.platform != "win32":
    import pwd

SHARED_FOLDER = Path("/var/lib/twofold")
"""Where root puts data and binaries that `nobody` cannot reach elsewhere."""


def server_account() -> Account | None:
    """The account of `nobody` if this process is root's, else None: the current account.

    Raises:
        EmbeddedError: this process is root's, and there is no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and there is no user `nobody` to run it as:"
            " run as an ordinary user, or set DATABASE_URL."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def is_reachable(path: Path) -> bool:
    """Whether every user may pass through all existing parent folders of ``path``."""
    return all(folder.stat().st_mode & 0o001 for folder in path.parents if folder.exists())


def create_folder(folder: Path) -> None:
    """Create a folder that the server's account can pass through.

    Raises:
        EmbeddedError: the folder or a parent belongs to another user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Private files in it have their own mode.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if folder.is_relative_to(SHARED_FOLDER):
            SHARED_FOLDER.chmod(0o711)
    except PermissionError as error:
        if Path(error.filename).exists():
            raise EmbeddedError(f"{error.filename} belongs to another user.") from None
        raise


def path_digest(path: Path) -> str:
    """Twelve hexadecimal digits that stand for a path in the name of a shared folder."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
