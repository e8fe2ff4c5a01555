"""A session's look-up inside the statement of a read: one round trip in place of two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from persistence.errors import SessionUnconfirmed
from persistence.sessions.lookups import TableLookup
from persistence.sessions.tokens import PresentedToken, parse_token
from persistence.sql import Record, Statement
from persistence.viewer import Viewer

MAX_ROWS: Final = 1001
"""The most rows of a read that the look-up is joined to: the largest page, and one that shows
whether there is more. So many are read for a payer whose budget turns out to be spent."""


class TableSessionCheck:
    """A session that was valid before, to be looked up again together with the next read.

    Args:
        lookup: how sessions are looked up.
        token: the request's.
        viewer: whose session it was.

    Attributes:
        is_confirmed: whether a read has found the session.
        is_failed: whether a read has not found it, or could not be joined.
    """

    __slots__ = (
        "_keys",
        "_lookup",
        "_presented",
        "_token",
        "is_confirmed",
        "is_failed",
        "viewer",
    )

    def __init__(self, lookup: TableLookup, token: bytes, viewer: Viewer) -> None:
        self._lookup = lookup
        self._token = token
        self._presented: PresentedToken | None = None
        self._keys: Sequence[str] = ()
        self.viewer = viewer
        self.is_confirmed = False
        self.is_failed = False

    def fail(self) -> SessionUnconfirmed:
        """Mark the check as failed, and return the error to raise."""
        self.is_failed = True
        return SessionUnconfirmed()

    def join(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> tuple[Statement, dict[str, Any]]:
        """The statement and its values, with the look-up.

        Raises:
            SessionUnconfirmed: it may have too many rows, or its columns are not known.
        """
        if values.get("limit", 1) > MAX_ROWS or not statement.columns:
            raise self.fail()
        lookup = self._lookup.statement
        if self._presented is None:
            self._presented = parse_token(self._token)
            self._keys = self._lookup.keys(self._presented)
        joined = self._lookup.joined.get(statement.sql)
        if joined is None:
            joined = self._lookup.joined[statement.sql] = _join(lookup, statement)
        return joined, {**values, **dict(zip(lookup.parameters, self._keys, strict=True))}

    def confirm(self, records: Sequence[Record]) -> Sequence[Record]:
        """The statement's own records, after the check of the session in them.

        Raises:
            SessionUnconfirmed: there is no such session any more, or it is not the same.
        """
        first = records[0] if records else None
        if first is None or first[_MATCHES] != 1:
            raise self.fail()
        assert self._presented is not None
        session = self._lookup.session([first[:_MATCHES]], self._keys, self._presented)
        if session is None or session.viewer != self.viewer:
            raise self.fail()
        self.is_confirmed = True
        return [record[_OWN] for record in records[1:]]


_MATCHES: Final = 4
"""The column, after those of the look-up, with the number of sessions that it found. It is null in
the statement's own rows."""

_OWN: Final = slice(_MATCHES + 1, None)
"""The statement's own columns. They are null in the first row, which is the session's."""


def _join(lookup: Statement, statement: Statement) -> Statement:
    # Two statements that are complete; no value and no name of a request is in either. PostgreSQL
    # runs the parts of a UNION ALL in their order. Any other order would only cost a second trip:
    # the first row would be no session. As columns of each row, the session would cost 1 µs of
    # CPU for each.
    # The look-up keeps its numbers. Its table's name may contain a dollar sign; ours do not.
    keys = len(lookup.parameters)
    page = _PARAMETER.sub(lambda match: f"${int(match[1]) + keys}", statement.sql)
    own, session = (", ".join(["NULL"] * number) for number in (statement.columns, _MATCHES + 1))
    return Statement(
        f"SELECT found.*, count(*) OVER (), {own} FROM ({lookup.sql}) AS found"  # noqa: S608
        f" UNION ALL SELECT {session}, page.* FROM ({page}) AS page",
        (*lookup.parameters, *statement.parameters),
        typed=lookup.typed and statement.typed,
    )


_PARAMETER: Final = re.compile(r"\$([0-9]+)")
