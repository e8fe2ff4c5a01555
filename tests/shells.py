"""A shell whose environment and home folder are about another database than ours."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from asyncpg import connect_utils

_LOOKUP = r"""(?:environ\.get|getenv)\(\s*["'](\w+)["']"""

DRIVER_VARIABLES = sorted(
    {*re.findall(_LOOKUP, inspect.getsource(connect_utils)), "LOGNAME", "USER"}
)
"""Every variable that asyncpg's source looks up, and those of ``getpass.getuser()``."""


def unreadable_home(folder: Path) -> Path:
    """A home folder in which no path can be looked up, not even by root."""
    home = folder / "home"
    if not home.is_symlink():
        home.symlink_to(home)
    return home


def hostile_environment(home: Path) -> dict[str, str]:
    """Variables that point psql and asyncpg elsewhere, with values that no connection survives.

    Args:
        home: the home folder.
    """
    return {
        **dict.fromkeys(DRIVER_VARIABLES, "nonsense"),
        "PGAPPNAME": "nonsense",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATA": "/nowhere",
        "PGHOST": "192.0.2.1",
        "PGHOSTADDR": "192.0.2.1",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGPASSFILE": "/nowhere",
        "PGPORT": "1",
        "PGSSLMODE": "verify-full",
        "PGTARGETSESSIONATTRS": "standby",
        "PGTZ": "Pacific/Kiritimati",
        "SSLKEYLOGFILE": "/nowhere/session_keys",
        "HOME": str(home),
    }
