"""The layouts of the auth server's session table. Reads sessions and never writes them.

The auth server owns the table; its names and types are read from PostgreSQL's catalogue.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

import asyncpg

from persistence.database import Database
from persistence.errors import Unavailable
from persistence.sessions.tokens import (
    PresentedToken,
    hash_token,
    is_signature_right,
    parse_token,
)
from persistence.sql import Record, Statement
from persistence.tables import ENCODING, ROW_SECURITY, wrong_encoding
from persistence.viewer import Viewer


class SessionRecord(NamedTuple):
    """A valid session as a lookup read it.

    Attributes:
        viewer: the person whose session it is.
        seconds_left: until the session ends, by the database's clock at the time of the lookup;
            at most ``MAX_SECONDS_LEFT``.
    """

    viewer: Viewer
    seconds_left: float


MAX_SECONDS_LEFT: Final = 60
"""The longest time that ``SessionRecord.seconds_left`` reports, in seconds.

No one may cache a session for longer.
"""


class SessionStore(StrEnum):
    """The layout in which the auth server keeps its sessions."""

    HASHED = "hashed"
    BETTER_AUTH = "better-auth"


class UnusableSessions(Exception):
    """The sessions cannot be read as configured; the message says what to change."""


class SessionLookup(Protocol):
    """Finds the session that belongs to a token."""

    async def find(self, db: Database, token: bytes) -> SessionRecord | None:
        """The session with this token, or ``None`` if there is no valid one.

        A session is valid when it exists, is not revoked, and ends in the future by the
        database's clock.

        Raises:
            Unavailable: the database did not answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLookup:
    """Finds sessions in the auth server's table.

    Attributes:
        signing_secrets: a token's signature must be right under one of them, if there are any.
        statement: takes what ``keys`` returns, a parameter each.
        table: the auth server's, as SQL writes it.
        joined: the statements that do the look-up along the way (``persistence.sessions.checks``),
            by the SQL that they began as.
    """

    signing_secrets: Sequence[bytes]
    statement: Statement
    table: str
    joined: dict[str, Statement] = field(default_factory=dict, compare=False, repr=False)

    async def find(self, db: Database, token: bytes) -> SessionRecord | None:
        """See ``SessionLookup.find``."""
        presented = parse_token(token)
        keys = self.keys(presented)
        values = dict(zip(self.statement.parameters, keys, strict=True))
        return self.session(await db.read(self.statement, **values), keys, presented)

    def session(
        self, records: Sequence[Record], keys: Sequence[str], presented: PresentedToken
    ) -> SessionRecord | None:
        """The valid session among the statement's records, if one belongs to the token.

        The signature is checked after the query, so that a wrong one takes as long as a right one.
        """
        session = _match(records, self.stored(keys, presented))
        return session if is_signature_right(presented, self.signing_secrets) else None

    def keys(self, presented: PresentedToken) -> Sequence[str]:
        """The statement's values for a token."""
        raise NotImplementedError

    def stored(self, keys: Sequence[str], presented: PresentedToken) -> Sequence[bytes]:
        """What the table may have of a token."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedSessionLookup(TableLookup):
    """Lookup in rows that carry the hex HMAC-SHA256 of the token, and ``revoked``."""

    secrets: Sequence[bytes]

    def keys(self, presented: PresentedToken) -> Sequence[str]:
        """The hash under each secret."""
        return [hash_token(secret, presented.raw) for secret in self.secrets]

    def stored(self, keys: Sequence[str], presented: PresentedToken) -> Sequence[bytes]:
        """The hashes."""
        return [key.encode() for key in keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class BetterAuthSessionLookup(TableLookup):
    """Lookup in a stock better-auth server's rows: plain tokens, deleted when revoked."""

    def keys(self, presented: PresentedToken) -> Sequence[str]:
        """The token, as far as PostgreSQL can store it.

        The query runs with every token, also one that no row can have, so that all take the same
        time.
        """
        return [presented.raw.decode(errors="replace").replace("\0", "\ufffd")]

    def stored(self, keys: Sequence[str], presented: PresentedToken) -> Sequence[bytes]:
        """The token itself."""
        return [presented.raw]


def _match(records: Sequence[Record], keys: Sequence[bytes]) -> SessionRecord | None:
    # Compared again here, in constant time and byte for byte. The auth server's column may have
    # an equality of its own (a collation, citext, padding).
    for row_key, user_id, expires_at, seconds_left in records:
        if any(hmac.compare_digest(row_key.encode(), key) for key in keys):
            return SessionRecord(Viewer(user_id, expires_at), seconds_left)
    return None


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
    layout = await _find_table(db, store, (table,) if table else _TABLES[store])
    is_hashed = store is SessionStore.HASHED
    statement = (
        _hashed_statement(layout, len(hash_secrets))
        if is_hashed
        else _better_auth_statement(layout)
    )
    problem = (
        f"The session table {layout.name} cannot be read as SESSION_STORE={store} describes it"
    )
    await _probe(db, statement, problem, **dict.fromkeys(statement.parameters, ""))
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


async def _probe(
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


class _Table(NamedTuple):
    """A table in PostgreSQL's catalogue: its quoted name, and its columns' types by name."""

    name: str
    columns: Mapping[str, str]

    def column(self, *spellings: str) -> str:
        """The column with one of these spellings, quoted.

        Raises:
            UnusableSessions: the table has none of them, or more than one.
        """
        present = [name for name in spellings if name in self.columns]
        if len(present) != 1:
            problem = "both columns" if present else "no column"
            raise UnusableSessions(
                f"The session table {self.name} has {problem} "
                f"{' and '.join(present) or ' or '.join(spellings)}; SESSION_STORE may not fit it."
            )
        return f'"{present[0]}"'


_TABLES: Final = {
    SessionStore.HASHED: ("user_sessions",),
    SessionStore.BETTER_AUTH: ("session", "sessions"),
}

_DESCRIBE: Final = Statement(
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


async def _find_table(db: Database, store: SessionStore, names: Sequence[str]) -> _Table:
    tables: dict[str, dict[str, str]] = {}
    problem = f"The database cannot look for a table {' or '.join(names)}"
    rows = await _probe(db, _DESCRIBE, problem, names=list(names))
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
    return _Table(name, columns)


def _hashed_statement(table: _Table, secrets: int) -> Statement:
    expires = table.column("expires_at")
    return _statement(
        table, table.column("token_hash"), table.column("user_id"), expires,
        f"AND {table.column('revoked')} IS NOT TRUE", secrets,
    )  # fmt: skip


def _better_auth_statement(table: _Table) -> Statement:
    expires = table.column("expiresAt", "expires_at")
    user_id = table.column("userId", "user_id")
    return _statement(table, table.column("token"), user_id, expires, "")


def _statement(
    table: _Table, key: str, user_id: str, expires: str, condition: str, keys: int = 1
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
