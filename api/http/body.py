"""Request bodies: read with a bound on size and time, decoded as strict JSON."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from api.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from api.headers import header_values
from persistence.errors import FieldError, InvalidInput
from persistence.timers import LazyTimeout

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
    for length in header_values(scope, b"content-length"):
        if length.isdigit() and int(length[:20]) > MAX_BODY:
            raise too_large()
    body = bytearray()
    is_complete = False
    try:
        with LazyTimeout(BODY_SECONDS):
            while not is_complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise too_large()
                is_complete = not message.get("more_body")
    except TimeoutError:
        raise too_slow() from None
    try:
        return msgspec.json.decode(body)
    except _NOT_JSON as error:
        raise _invalid_json(bytes(body), "", error) from None


def decode_json(text: bytes, field: str) -> Any:
    """Decode strict JSON.

    Args:
        text: the JSON text.
        field: the field that the error names.

    Raises:
        InvalidInput: it is not JSON; the message says what is wrong, and where.
    """
    try:
        return msgspec.json.decode(text)
    except _NOT_JSON as error:
        raise _invalid_json(text, field, error) from None


_NOT_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises for a text that is not strict JSON."""


def _invalid_json(text: bytes, field: str, error: Exception) -> InvalidInput:
    subject = "Is" if field else "Body is"
    message = f"{subject} not valid JSON: {_json_problem(text, error)}"
    return InvalidInput([FieldError(field, message, "json_invalid")])


def _json_problem(text: bytes, error: Exception) -> str:
    """What is wrong with a JSON text, and at which byte, counted from 0."""
    if not text.strip():
        return "it is empty"
    if text.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark"
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16, and must be UTF-8"
    try:
        text.decode()
    except UnicodeDecodeError as undecodable:
        return f"it is not UTF-8 (byte {undecodable.start})"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    reason = str(error)
    if "surrogate" in reason or (reason == _TRUNCATED and _is_complete(text)):
        return "it has a lone surrogate"
    if reason == _TRUNCATED:
        return f"it is cut off (byte {len(text)})"
    return reason.removeprefix("JSON is malformed: ").partition(" - at ")[0]


_TRUNCATED: Final = "Input data was truncated"
"""msgspec's message when a text ends too early, or has one half of a surrogate pair."""


def _is_complete(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _require_media_type(scope: Scope, media_types: Sequence[str]) -> None:
    encodings = header_values(scope, b"content-encoding")
    if any(encoding.strip().lower() != b"identity" for encoding in encodings):
        raise UnsupportedMediaType("A request body must not have a Content-Encoding")
    declared = header_values(scope, b"content-type")
    problem = _problem(declared[0] if len(declared) == 1 else b"", tuple(media_types))
    if problem is not None:
        raise UnsupportedMediaType(problem)


@lru_cache(maxsize=64)
def _problem(content_type: bytes, media_types: tuple[str, ...]) -> str | None:
    """Why a body of this type is not read; ``None`` if it is."""
    media_type, *parameters = [part.strip() for part in content_type.decode("latin-1").split(";")]
    if media_type.lower() not in media_types:
        return f"The request body must be {' or '.join(media_types)}"
    for parameter in parameters:
        name, _, charset = parameter.lower().partition("=")
        if name.strip() == "charset" and charset.strip(' "') not in _CHARSETS:
            return f"The request body must be UTF-8, and not {charset.strip()[:50]}"
    return None


# ASCII is a part of UTF-8.
_CHARSETS: Final = ("utf-8", "utf8", "us-ascii", "ascii")


def too_large() -> BodyTooLarge:
    """The error of a body that is larger than ``MAX_BODY``."""
    return BodyTooLarge(f"A request body may have at most {MAX_BODY} bytes")


def too_slow() -> BodyTooSlow:
    """The error of a body that took longer than ``BODY_SECONDS``."""
    return BodyTooSlow(f"It did not arrive within {BODY_SECONDS:.0f} seconds")
