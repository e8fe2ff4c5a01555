"""Reading the auth server's sessions: who a bearer token belongs to. Writes nothing, ever.

The auth server owns the table, and how it looks is found out by looking (``find_layout``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote

import asyncpg

from persistence.database import Database, Record, Statement
from persistence.errors import Unavailable
from persistence.tables import ENCODING, wrong_encoding


class Viewer(NamedTuple):
    """Who is asking: a session that counts. ``session_expires_at`` is in UTC."""

    user_id: str
    session_expires_at: datetime


class Session(NamedTuple):
    """A session as it was found.

    Attributes:
        seconds_left: until it ends, by the database's clock at the moment it was asked; at most
            ``FORESIGHT``.
    """

    viewer: Viewer
    seconds_left: float


FORESIGHT: Final = 60
"""Seconds: how far ahead anybody may want to know whether a session will not have ended."""


class SessionStore(StrEnum):
    """How the auth server keeps its sessions."""

    HASHED = "hashed"
    BETTER_AUTH = "better-auth"


class UnusableSessions(Exception):
    """The sessions cannot be read as configured; the sentence says what to change."""


class Sessions(Protocol):
    """A layout that was found, ready to be asked."""

    async def session(self, db: Database, token: bytes) -> Session | None:
        """The session with this token, or ``None`` when none counts.

        A session counts when it exists, is not revoked, and its end is in the future by the
        database's clock.
        """
        ...


@dataclass(frozen=True, slots=True)
class HashedSessions:
    """Rows that carry the hex HMAC-SHA256 of the token, and ``revoked``."""

    secret: bytes
    signing_secrets: Sequence[bytes]
    lookup: Statement

    async def session(self, db: Database, token: bytes) -> Session | None:
        """See ``Sessions.session``; signatures are judged as in the other layout."""
        presented = split_token(token)
        digest = hash_token(self.secret, presented.raw)
        session = _counting(await db.read(self.lookup, key=digest), digest.encode())
        return session if is_signature_right(presented, self.signing_secrets) else None


@dataclass(frozen=True, slots=True)
class BetterAuthSessions:
    """Rows as a stock better-auth server writes them: plain tokens, gone when revoked."""

    secrets: Sequence[bytes]
    lookup: Statement

    async def session(self, db: Database, token: bytes) -> Session | None:
        """See ``Sessions.session``.

        A signature that is there must be right under one of the secrets, where there are any.
        It is judged after the look-up, so that a wrong one takes as long as a right one.
        """
        presented = split_token(token)
        # What PostgreSQL could not hold is looked for in vain, in the same time as all else.
        key = presented.raw.decode(errors="replace").replace("\0", "\ufffd")
        session = _counting(await db.read(self.lookup, key=key), presented.raw)
        return session if is_signature_right(presented, self.secrets) else None


def _counting(records: Sequence[Record], key: bytes) -> Session | None:
    # Compared again here, in constant time and byte for byte: what equality means in the
    # auth server's column (a collation, citext, padding) is not ours to know.
    for found, user_id, expires_at, seconds_left in records:
        if hmac.compare_digest(found.encode(), key):
            return Session(Viewer(user_id, expires_at), seconds_left)
    return None


def hash_token(secret: bytes, token: bytes) -> str:
    """64 hex characters: HMAC-SHA256 of the token's UTF-8 bytes, as the auth server does it."""
    return hmac.new(secret, token, hashlib.sha256).hexdigest()


class PresentedToken(NamedTuple):
    """A bearer token taken apart. ``signature`` is empty when there is none."""

    raw: bytes
    signature: bytes


def split_token(token: bytes) -> PresentedToken:
    """Tell better-auth's signed form ``token.signature`` from a raw token.

    A suffix after the last dot that, percent-decoded, is 44 characters of padded base64 is a
    signature; otherwise the whole string is the token. Never ``unquote_plus``: ``+`` is base64.
    """
    head, dot, tail = token.rpartition(b".")
    if not (dot and head):
        return PresentedToken(token, b"")
    signature = _decoded(tail)
    if len(signature) != _SIGNATURE_LENGTH or not signature.endswith(b"="):
        return PresentedToken(token, b"")
    try:
        base64.b64decode(signature, validate=True)
    except binascii.Error:
        return PresentedToken(token, b"")
    return PresentedToken(_decoded(head), signature)


_SIGNATURE_LENGTH: Final = 44  # 32 bytes of SHA-256 in base64, padded


def _decoded(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    return unquote(text.decode("latin-1"), "latin-1").encode("latin-1")


def is_signature_right(token: PresentedToken, secrets: Sequence[bytes]) -> bool:
    """Whether the signature is one of the secrets'. True where there is nothing to check."""
    if not token.signature or not secrets:
        return True
    # Every secret is tried, so that the time does not tell which one it was.
    checks = [hmac.compare_digest(sign(secret, token.raw), token.signature) for secret in secrets]
    return any(checks)


def sign(secret: bytes, token: bytes) -> bytes:
    """better-auth's signature of a token: padded standard base64 of HMAC-SHA256."""
    return base64.b64encode(hmac.new(secret, token, hashlib.sha256).digest())


async def find_layout(
    db: Database,
    store: SessionStore,
    *,
    table: str | None,
    hash_secret: bytes,
    signing_secrets: Sequence[bytes],
) -> Sessions:
    """Look at the auth server's table and prepare the look-up for it.

    Args:
        table: its name, as SQL would write it, where the usual ones do not fit.
        hash_secret: for ``SessionStore.HASHED``.
        signing_secrets: better-auth's own; none means signatures go unchecked.

    Raises:
        UnusableSessions: there is no such table, or more than one, or it has other columns, or
            they are of other types, or we may not read it.
        Unavailable: the database could not be asked.
    """
    found = await _find_table(db, store, (table,) if table else _TABLES[store])
    hashed = store is SessionStore.HASHED
    lookup = _hashed_lookup(found) if hashed else _better_auth_lookup(found)
    doubt = f"The session table {found.name} cannot be read as SESSION_STORE={store} describes it"
    await _try(db, lookup, doubt, key="")
    if hashed:
        return HashedSessions(hash_secret, signing_secrets, lookup)
    return BetterAuthSessions(signing_secrets, lookup)


async def _try(db: Database, wanted: Statement, doubt: str, **values: Any) -> Sequence[Record]:
    """Run a statement that PostgreSQL may refuse for what it is, and say why if it does."""
    try:
        return await db.read(wanted, **values)
    except asyncpg.PostgresError as error:
        reason = error.args[0]
    except Unavailable as error:
        # Rights that are denied, functions that the column's type does not have.
        if not isinstance(error.__cause__, asyncpg.SyntaxOrAccessError):
            raise
        reason = error.__cause__.args[0]
    raise UnusableSessions(f"{doubt}: {reason}.")


class _Table(NamedTuple):
    """A table as the catalogue has it: its quoted name, and its columns' types by name."""

    name: str
    columns: Mapping[str, str]

    def column(self, *spellings: str) -> str:
        """The one spelling that the table has, quoted.

        Raises:
            UnusableSessions: it has none of them, or more than one.
        """
        present = [name for name in spellings if name in self.columns]
        if len(present) != 1:
            problem = "both columns" if present else "no column"
            raise UnusableSessions(
                f"The session table {self.name} has {problem} "
                f"{' and '.join(present) or ' or '.join(spellings)}; SESSION_STORE may not fit it."
            )
        return f'"{present[0]}"'

    def instant(self, *spellings: str) -> str:
        """SQL for a timestamp column as an instant; one without a time zone is UTC."""
        column = self.column(*spellings)
        if self.columns[column.strip('"')] == "timestamp without time zone":
            return f"{column} AT TIME ZONE 'UTC'"
        return column


_TABLES: Final = {
    SessionStore.HASHED: ("user_sessions",),
    SessionStore.BETTER_AUTH: ("session", "sessions"),
}

_DESCRIBE: Final = Statement(
    """
    SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, NULL),
           current_setting('server_encoding')
    FROM unnest($1::text[]) AS wanted (name)
    JOIN pg_class c ON c.oid = to_regclass(wanted.name)
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
    """,
    ("names",),
)


async def _find_table(db: Database, store: SessionStore, names: Sequence[str]) -> _Table:
    tables: dict[str, dict[str, str]] = {}
    doubt = f"The database cannot look for a table {' or '.join(names)}"
    for name, column, type_name, encoding in await _try(db, _DESCRIBE, doubt, names=list(names)):
        if encoding != ENCODING:
            raise UnusableSessions(wrong_encoding(encoding))
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


def _hashed_lookup(table: _Table) -> Statement:
    expires = table.instant("expires_at")
    return _lookup(
        table, table.column("token_hash"), table.column("user_id"), expires,
        f"AND {table.column('revoked')} IS NOT TRUE",
    )  # fmt: skip


def _better_auth_lookup(table: _Table) -> Statement:
    expires = table.instant("expiresAt", "expires_at")
    user_id = table.column("userId", "user_id")
    return _lookup(table, table.column("token"), user_id, expires, "")


def _lookup(table: _Table, key: str, user_id: str, expires: str, condition: str) -> Statement:
    # Other types of text have an equality of their own, which a cast would take from them: char
    # ignores padding, citext case, and their indexes know no other.
    typed = table.columns[key.strip('"')] in ("text", "character varying")
    # least(): a session without an end has no difference to now, before PostgreSQL 17.
    soon = f"least({expires}, now() + interval '{FORESIGHT} s')"
    # least() again: what lies beyond Python's years, infinity included, lasts until their end.
    ends = f"least(({expires})::timestamptz, '9999-12-31 23:59:59.999999Z'::timestamptz)"
    # Every identifier is one that PostgreSQL's own catalogue quoted or that stands in this file.
    return Statement(
        f"SELECT {key}::text, {user_id}::text, {ends},"  # noqa: S608
        f" extract(epoch FROM {soon} - now())::float8 FROM {table.name}"
        f" WHERE {key} = $1{'::text' if typed else ''} AND {expires} > now()"
        f" AND {user_id} IS NOT NULL {condition}",
        ("key",),
        typed=typed,
    )
