"""The bearer token of a request: reading it, and removing it from what is sent back."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from api.errors import Unauthenticated
from api.headers import header_values
from persistence.reported_values import VALUE_LENGTH
from persistence.sessions.tokens import parse_token

MAX_TOKEN: Final = 4096
"""The longest bearer token that is looked up, in bytes; better-auth's have 32 or 80."""


def bearer_token(scope: Scope) -> bytes:
    """The token in the ``Authorization: Bearer`` header (RFC 6750, 2.1), as it was sent.

    Raises:
        Unauthenticated: the header is missing or repeated, or its value is not a bearer token.
    """
    values = header_values(scope, b"authorization")
    if len(values) != 1:
        raise Unauthenticated
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not 1 <= len(token) <= MAX_TOKEN or b" " in token:
        raise Unauthenticated
    return token


def without_token(scope: Scope, error: bytes) -> bytes:
    """An encoded error without the request's bearer token, wherever the client had put it.

    Errors repeat parts of a request, and get into logs and screenshots. A rejected value is cut,
    so that it may end in the beginning of a token.
    """
    for value in header_values(scope, b"authorization"):
        credentials = value.partition(b" ")[2].strip()
        for token in {credentials, unquote_to_bytes(credentials), parse_token(credentials).raw}:
            if len(token) >= _MIN_SECRET and token[:_MIN_SECRET] in error:
                error = error.replace(token, _REDACTED)
                for length in range(min(len(token) - 1, VALUE_LENGTH), _MIN_SECRET - 1, -1):
                    error = error.replace(token[:length] + b'"', _REDACTED + b'"')
    return error


_MIN_SECRET: Final = 12
"""Fewer bytes are no secret: as many of a token may be seen."""


_REDACTED: Final = b"********"
