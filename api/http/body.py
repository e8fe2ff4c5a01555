"""Request bodies: read with a bound on size and time, decoded as strict JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from api.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from api.headers import header_values
from persistence.errors import FieldError, InvalidInput

MAX_BODY: Final = 64 * 1024
"""The largest request body, in bytes."""

BODY_SECONDS: Final = 10.0
"""How long a request body may take to arrive, in seconds."""


async def read_json(scope: Scope, receive: Receive, media_types: Sequence[str]) -> Any:
    """Read a request's body and decode it as strict JSON.

    Strict means RFC 8259 and UTF-8: no ``NaN``, no number beyond a double's range, no lone
    surrogates, no nesting deeper than Python's stack.

    Args:
        media_types: the media types that the body may have.

    Raises:
        UnsupportedMediaType: the body has another media type, or a content encoding.
        BodyTooLarge: it has more than ``MAX_BODY`` bytes, or its ``Content-Length`` says so.
        BodyTooSlow: it did not arrive within ``BODY_SECONDS``.
        InvalidInput: it is not JSON.
        ClientDisconnect: the client closed the connection.
    """
    _require_media_type(scope, media_types)
    body = await _read_body(scope, receive)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidInput([FieldError("", "Body is not valid JSON", "json_invalid")]) from None


def _require_media_type(scope: Scope, media_types: Sequence[str]) -> None:
    encodings = header_values(scope, b"content-encoding")
    if any(encoding.strip().lower() != b"identity" for encoding in encodings):
        raise UnsupportedMediaType("A request body must not have a Content-Encoding")
    declared = header_values(scope, b"content-type")
    if len(declared) != 1 or not _is_one_of(declared[0].decode("latin-1"), media_types):
        raise UnsupportedMediaType(f"The request body must be {' or '.join(media_types)}")


def _is_one_of(declared: str, media_types: Sequence[str]) -> bool:
    media_type, *parameters = (part.strip().lower() for part in declared.split(";"))
    charsets = {part.partition("=")[2].strip('"') for part in parameters if "charset" in part}
    return media_type in media_types and charsets <= {"utf-8", "utf8"}


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    for length in header_values(scope, b"content-length"):
        if length.isdigit() and int(length[:20]) > MAX_BODY:
            raise too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise too_large()
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise too_slow() from None


def too_large() -> BodyTooLarge:
    """The error of a body that is larger than ``MAX_BODY``."""
    return BodyTooLarge(f"A request body may have at most {MAX_BODY} bytes")


def too_slow() -> BodyTooSlow:
    """The error of a body that took longer than ``BODY_SECONDS``."""
    return BodyTooSlow(f"It did not arrive within {BODY_SECONDS:.0f} seconds")
