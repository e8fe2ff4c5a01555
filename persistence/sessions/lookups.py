"""Finding the session of a token in the auth server's table, in each layout."""

from __future__ import annotations

import hmac
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from persistence.database import Database
from persistence.sessions.tokens import (
    PresentedToken,
    hash_token,
    is_signature_right,
    parse_token,
)
from persistence.sql import Record, Statement
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

    async def find_many(self, db: Database, tokens: Sequence[bytes]) -> list[SessionRecord | None]:
        """The valid sessions of many tokens, in their order; one statement."""
        presented = [parse_token(token) for token in tokens]
        keys = [self.keys(each) for each in presented]
        columns = [list(column) for column in zip(*keys, strict=True)]
        statement = _many(self.statement)
        sessions: dict[int, list[Any]] = defaultdict(list)
        if not keys:
            return []
        arguments = dict(zip(statement.parameters, columns, strict=True))
        for place, *values in await db.read(statement, **arguments):
            sessions[place].append(values)
        return [
            self.session(sessions[place], key, each)
            for place, (key, each) in enumerate(zip(keys, presented, strict=True), 1)
        ]

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


@cache
def _many(statement: Statement) -> Statement:
    """The statement for lists of its parameters; a row begins with the place in them, from 1."""
    # A table's name may contain a dollar sign, in quotes.
    one = re.sub(
        r'("[^"]*")|\$([0-9]+)', lambda match: match[1] or f"keys.key_{match[2]}", statement.sql
    )
    numbers = range(1, len(statement.parameters) + 1)
    lists = ", ".join(f"${number}::text[]" for number in numbers)
    columns = ", ".join(f"key_{number}" for number in numbers)
    return Statement(
        f"SELECT keys.place::int4, found.* FROM unnest({lists}) WITH ORDINALITY"  # noqa: S608
        f" AS keys({columns}, place), LATERAL ({one}) AS found",
        statement.parameters,
        typed=statement.typed,
    )
