"""The layouts of the auth server's session table: the statement that reads each one.

The auth server owns the table; this service reads it and never writes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sessions.lookups import (
    MAX_SECONDS_LEFT,
    BetterAuthSessionLookup,
    HashedSessionLookup,
    TableLookup,
)
from persistence.sessions.session_table import USUAL_NAMES, SessionTable, find_table, probe
from persistence.sessions.store import SessionStore
from persistence.sql import Statement


async def find_session_lookup(
    db: Database,
    store: SessionStore,
    *,
    table: str | None,
    hash_secrets: Sequence[bytes],
    signing_secrets: Sequence[bytes],
) -> TableLookup:
    """Inspect the auth server's table and prepare the lookup for it.

    Args:
        table: the table's name as SQL writes it; ``None`` means the layout's usual names.
        hash_secrets: for ``SessionStore.HASHED``; a token may be hashed with any of them.
        signing_secrets: better-auth's own; if there are none, signatures go unchecked.

    Raises:
        UnusableSessions: there is no such table, or more than one; or its columns or their types
            are not the layout's; or we have no right to read it.
        Unavailable: the database did not answer.
    """
    layout = await find_table(db, store, (table,) if table else USUAL_NAMES[store])
    is_hashed = store is SessionStore.HASHED
    statement = (
        _hashed_statement(layout, len(hash_secrets))
        if is_hashed
        else _better_auth_statement(layout)
    )
    problem = (
        f"The session table {layout.name} cannot be read as SESSION_STORE={store} describes it"
    )
    await probe(db, statement, problem, **dict.fromkeys(statement.parameters, ""))
    if is_hashed:
        return HashedSessionLookup(
            secrets=hash_secrets,
            signing_secrets=signing_secrets,
            statement=statement,
            table=layout.name,
        )
    return BetterAuthSessionLookup(
        signing_secrets=signing_secrets, statement=statement, table=layout.name
    )


def is_layout_outdated(error: Unavailable) -> bool:
    """Whether a look-up failed because the table is no longer what its layout describes."""
    return isinstance(error.__cause__, asyncpg.SyntaxOrAccessError)


def _hashed_statement(table: SessionTable, secrets: int) -> Statement:
    expires = table.column("expires_at")
    return _statement(
        table, table.column("token_hash"), table.column("user_id"), expires,
        f"AND {table.column('revoked')} IS NOT TRUE", secrets,
    )  # fmt: skip


def _better_auth_statement(table: SessionTable) -> Statement:
    expires = table.column("expiresAt", "expires_at")
    user_id = table.column("userId", "user_id")
    return _statement(table, table.column("token"), user_id, expires, "")


def _statement(
    table: SessionTable, key: str, user_id: str, expires: str, condition: str, keys: int = 1
) -> Statement:
    # No cast for other types of text: they have an equality of their own (char ignores padding,
    # citext ignores case), and a cast would not use their indexes.
    typed = table.columns[key.strip('"')] in ("text", "character varying")
    # A parameter for each key: asyncpg would have to ask for the type of a list of another type.
    values = ", ".join(f"${number}{'::text' if typed else ''}" for number in range(1, keys + 1))
    # Seconds since 1970 are the same for a timestamp with a time zone and for one without, in UTC,
    # also if the column becomes the other one while this statement is in use. Text has none.
    end, now = (f"extract(epoch FROM {instant})::float8" for instant in (expires, "now()"))
    # Python's datetime ends with the year 9999, and to_timestamp() soon after PostgreSQL's.
    last = "'9999-12-31 23:59:59.999999Z'::timestamptz"
    # Every identifier was quoted by PostgreSQL's catalogue, or is written in this file.
    return Statement(
        f"SELECT {key}::text, {user_id}::text,"  # noqa: S608
        f" least(to_timestamp(least({end}, 253402300800)), {last}),"
        f" least({end} - {now}, {MAX_SECONDS_LEFT}) FROM {table.name}"
        f" WHERE {key} IN ({values}) AND {end} > {now}"
        f" AND {user_id} IS NOT NULL {condition}",
        tuple(f"session_key_{number}" for number in range(1, keys + 1)),
        typed=typed,
    )
