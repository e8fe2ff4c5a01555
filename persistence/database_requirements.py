"""What a database must be for our tables: its encoding, and no rows that are hidden from us."""

from __future__ import annotations

from typing import Final

ENCODING: Final = "UTF8"
"""The database's encoding. Any other cannot store every title, or miscounts its length."""


def wrong_encoding(encoding: str) -> str:
    """The sentence that rejects a database with another encoding."""
    return f"The encoding of the database is {encoding}; it has to be {ENCODING}."


ROW_SECURITY: Final = (
    "row-level security of the table {table} applies to this role, and would hide rows without an "
    "error: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or connect as its owner, or as a role "
    "with BYPASSRLS"
)
"""The sentence that rejects a table whose rows row-level security may hide."""
