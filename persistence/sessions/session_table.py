"""The auth server's table as PostgreSQL's catalogue describes it: its name and its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from persistence.database import Database
from persistence.database_requirements import ENCODING, ROW_SECURITY, wrong_encoding
from persistence.errors import Unavailable
from persistence.sessions.store import SessionStore, UnusableSessions
from persistence.sql import Record, Statement


async def probe(
    db: Database, statement: Statement, problem: str, **values: Any
) -> Sequence[Record]:
    """Run a statement that may not fit the table.

    Raises:
        UnusableSessions: PostgreSQL rejected the statement: the problem, and PostgreSQL's reason.
        Unavailable: the database did not answer.
    """
    try:
        return await db.read(statement, **values)
    except asyncpg.PostgresError as error:
        reason = error.args[0]
    except Unavailable as error:
        # A missing right, or a function that the column's type does not have.
        if not isinstance(error.__cause__, asyncpg.SyntaxOrAccessError):
            raise
        reason = error.__cause__.args[0]
    raise UnusableSessions(f"{problem}: {reason}.")


class SessionTable(NamedTuple):
    """A table in PostgreSQL's catalogue: its quoted name, and its columns' types by name."""

    name: str
    columns: Mapping[str, str]

    def column(self, *names: str) -> str:
        """The column with one of these names, quoted.

        Raises:
            UnusableSessions: the table has none of them, or more than one.
        """
        present = [name for name in names if name in self.columns]
        if len(present) != 1:
            problem = "both columns" if present else "no column"
            raise UnusableSessions(
                f"The session table {self.name} has {problem} "
                f"{' and '.join(present) or ' or '.join(names)}; SESSION_STORE may not fit it."
            )
        return f'"{present[0]}"'


USUAL_NAMES: Final = {
    SessionStore.HASHED: ("user_sessions",),
    SessionStore.BETTER_AUTH: ("session", "sessions"),
}
"""The names that the table has in each layout, unless SESSION_TABLE names another one."""


DESCRIBE: Final = Statement(
    """
    SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, NULL),
           current_setting('server_encoding'), row_security_active(c.oid)
    FROM unnest($1::text[]) AS candidate (name)
    JOIN pg_class c ON c.oid = to_regclass(candidate.name)
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
    """,
    ("names",),
)
"""Reads the names and types of the columns of the tables that have one of some names."""


async def find_table(db: Database, store: SessionStore, names: Sequence[str]) -> SessionTable:
    """The one table with one of these names.

    Raises:
        UnusableSessions: there is none, or more than one, or it cannot be read.
        Unavailable: the database did not answer.
    """
    tables: dict[str, dict[str, str]] = {}
    problem = f"The database cannot look for a table {' or '.join(names)}"
    rows = await probe(db, DESCRIBE, problem, names=list(names))
    for name, column, type_name, encoding, is_hidden in rows:
        if encoding != ENCODING:
            raise UnusableSessions(wrong_encoding(encoding))
        if is_hidden:
            reason = ROW_SECURITY.format(table=name)
            raise UnusableSessions(f"The sessions cannot be read: {reason}.")
        tables.setdefault(name, {})[column] = type_name
    if not tables:
        raise UnusableSessions(
            f"There is no table {' or '.join(names)} in the database. SESSION_STORE={store} reads "
            "the auth server's sessions from it: run the auth server's migrations, name the table "
            "in SESSION_TABLE, or, if the auth server keeps its sessions in Redis alone, let it "
            "keep them in the database too (session.storeSessionInDatabase)."
        )
    if len(tables) > 1:
        raise UnusableSessions(
            f"The database has the tables {' and '.join(sorted(tables))}; "
            "name the one with the sessions in SESSION_TABLE."
        )
    [(name, columns)] = tables.items()
    return SessionTable(name, columns)
