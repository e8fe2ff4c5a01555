"""How values travel: JSON read strictly, and written with the same bytes in both doors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from api.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from persistence.errors import FieldError, InvalidInput

MAX_BODY: Final = 64 * 1024
"""The largest request body, in bytes."""

MAX_ACCEPT: Final = 2048
"""How much of an ``Accept`` header is read, in bytes; browsers send 150."""

BODY_SECONDS: Final = 10.0
"""How long a request body may take to arrive."""

encode_json = msgspec.json.Encoder().encode
"""Any value as JSON. Instants have to go through ``instant`` first."""


def instant(value: datetime) -> datetime | str:
    """A UTC instant in the form in which ``encode_json`` writes it right.

    The contract's form is RFC 3339 in UTC with six fractional digits and ``Z``. msgspec writes
    just that, a hundred times faster than Python can, but leaves a fraction of zero out; those,
    one in a million, are written here.
    """
    return value if value.microsecond else rfc3339(value)


def rfc3339(value: datetime) -> str:
    """A UTC instant as the contract writes it: ``2025-12-10T12:34:56.000000Z``."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def now_to_the_second() -> str:
    """The current time as errors and health carry it: ``2025-12-10T12:34:56Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in order. ``name`` is in lower case."""
    return [value for key, value in scope["headers"] if key == name]


def best_media_type(scope: Scope, offers: Sequence[str]) -> str | None:
    """Which of the offers the client likes best: of equals the one that it names first, and the
    first offer where it does not care.

    Types are matched exactly; only a charset other than UTF-8 makes a type another one. See RFC
    9110, 12.5.1.
    """
    values = header_values(scope, b"accept")
    if not values:
        return offers[0]
    # Reading a list takes time in its length, and nobody has paid for it yet.
    accepted = b",".join(values)[:MAX_ACCEPT].decode("latin-1").lower()
    ranges = dict(_media_ranges(accepted))
    liked = {offer: _liking(ranges, offer) for offer in offers}
    best = max(offers, key=lambda offer: liked[offer])
    quality, _ = liked[best]
    return best if quality > 0 else None


def _media_ranges(accept: str) -> Iterator[tuple[str, tuple[float, int]]]:
    """Each range with how much it is liked: its weight, then its place."""
    for place, part in enumerate(accept.split(",")):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(pair.partition("=")[::2] for pair in parameters)
        if given.get("charset", "utf-8").strip('"') in ("utf-8", "utf8"):
            yield media_range, (_q(given.get("q", "1")), -place)


_WEIGHT: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def _q(text: str) -> float:
    return float(text) if _WEIGHT.fullmatch(text) else 0.0


def _liking(ranges: Mapping[str, tuple[float, int]], offer: str) -> tuple[float, int]:
    kind = offer.partition("/")[0]
    names = (offer, f"{kind}/*", "*/*")
    return next((ranges[name] for name in names if name in ranges), (0.0, 0))


async def read_json(scope: Scope, receive: Receive, media_types: Sequence[str]) -> Any:
    """Read a request's body, bounded in size and time, as strict JSON.

    Strict means RFC 8259 and UTF-8: no ``NaN``, no number beyond a double's range, no lone
    surrogates, no nesting deeper than Python's stack.

    Raises:
        UnsupportedMediaType: the body is not of one of these media types, or is encoded.
        BodyTooLarge: it has, or says it has, more than ``MAX_BODY`` bytes.
        BodyTooSlow: it was not there within ``BODY_SECONDS``.
        InvalidInput: it is not JSON.
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
    """The refusal of a body over the limit."""
    return BodyTooLarge(f"A request body may have at most {MAX_BODY} bytes")


def too_slow() -> BodyTooSlow:
    """The refusal of a body that trickles."""
    return BodyTooSlow(f"It did not arrive within {BODY_SECONDS:.0f} seconds")
