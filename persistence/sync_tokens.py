"""Sync tokens: how much of a person's changes a client has, as an opaque string."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.errors import ExpectedError
from persistence.field_types import MAX_ID


class SyncTokenExpired(ExpectedError):
    """The changes after this token are not known: the client has to read all tasks anew."""


class Head(NamedTuple):
    """The state of a person's feed (``persistence.tables.feeds``)."""

    epoch: int
    seq: int
    floor: int

    def token(self, user_id: str) -> SyncToken:
        """The token of a client that has everything."""
        return SyncToken(history(self.epoch, user_id), self.seq, self.seq, MAX_ID)


def split_head(records: Sequence[Any]) -> tuple[Head, Sequence[Any]]:
    """The head, and the rows that end with it, of a statement that reads both (``feed_sql``)."""
    head = Head(*records[0][-len(Head._fields) :])
    # No row begins with null; the head alone does.
    return head, [] if records[0][0] is None else records


class SyncToken(NamedTuple):
    """A client's position in the order of changes: after the task ``id`` of the change ``seq``.

    Attributes:
        history: of whom these numbers are, and of which epoch.
        start: the number of the last change before the client began to read. Of what was deleted
            until then it has nothing.
        seq: the number of a change. Tasks that one transaction changed have the same.
        id: of a task; ``MAX_ID`` if the client has all tasks of the change.
    """

    history: int
    start: int
    seq: int
    id: int

    def require_current(self, head: Head, user_id: str) -> None:
        """Require that all later changes are known.

        Raises:
            SyncTokenExpired: the token is of another history, or another person's; later than the
                head; or tasks are gone that the client may have.
        """
        # Of the floor's own change, the client needs all tasks: the rest of them may be gone.
        has_floor = self.start >= head.floor or (self.seq, self.id) >= (head.floor, MAX_ID)
        is_ahead = max(self.start, self.seq) > head.seq
        if self.history != history(head.epoch, user_id) or is_ahead or not has_floor:
            raise SyncTokenExpired


def history(epoch: int, user_id: str) -> int:
    """Identifies an epoch of one person's feed: 64 bits."""
    digest = blake2b(f"{epoch} {user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def encode_token(token: SyncToken) -> str:
    """The token as an opaque string of 43 URL-safe characters."""
    return urlsafe_b64encode(_PACKED.pack(*token)).rstrip(b"=").decode()


def decode_token(text: str) -> SyncToken:
    """The token that ``encode_token`` made the text from.

    Raises:
        PydanticCustomError: ``encode_token`` cannot have made this text.
    """
    try:
        token = SyncToken(*_PACKED.unpack(urlsafe_b64decode(text.encode("ascii") + b"=")))
        is_canonical = encode_token(token) == text and min(token) >= 0
    except (ValueError, struct.error):
        is_canonical = False
    if not is_canonical:
        raise PydanticCustomError("sync_token_invalid", "Input should be a token from a response")
    return token


def _require_token(text: str) -> str:
    decode_token(text)
    return text


_PACKED: Final = struct.Struct(">Qqqq")

SyncTokenText = Annotated[str, AfterValidator(_require_token)]
"""A sync token that a client sends; ``decode_token`` reads it without an error."""

# 32 bytes, of which the numbers are not negative.
SYNC_TOKEN_SCHEMA: Final = WithJsonSchema(
    {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"}
)
