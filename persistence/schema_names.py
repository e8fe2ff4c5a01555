"""The schema that our tables are in: which names it may have, and how SQL writes them."""

from __future__ import annotations

import re
from typing import Final


def require_schema_name(name: str) -> None:
    """Require that our tables can be put into a schema of this name.

    Raises:
        ValueError: they cannot; the message is one sentence.
    """
    if not _SCHEMA_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a schema's name: 1 to 63 lower-case letters, digits and underscores, "
            "the first no digit."
        )
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError(f"{name!r} is one of PostgreSQL's own schemas.")


# A name that SQL needs no quotes for, so that people can type it. PostgreSQL cuts at 63 bytes.
_SCHEMA_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def qualified(name: str, schema: str | None) -> str:
    """The name of one of our tables as SQL writes it.

    Args:
        schema: a name that ``require_schema_name`` allows; ``None`` for the search path's.
    """
    return name if schema is None else f'"{schema}".{name}'
