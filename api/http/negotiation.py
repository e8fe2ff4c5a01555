"""Content negotiation: which media type a client accepts best (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from starlette.types import Scope

from api.headers import header_values

MAX_ACCEPT: Final = 2048
"""How much of an ``Accept`` header is read, in bytes; browsers send 150."""


def best_media_type(scope: Scope, offers: Sequence[str]) -> str | None:
    """The offer that the client prefers; ``None`` if it accepts none of them.

    Of equally preferred offers, the one that the client names first; without a preference, the
    first offer. Types are matched exactly; a charset other than UTF-8 makes a range match nothing.

    Args:
        offers: media types, at least one.
    """
    values = header_values(scope, b"accept")
    if not values:
        return offers[0]
    # Bounded, because parsing takes time in proportion and nothing has been charged yet.
    accept = b",".join(values)[:MAX_ACCEPT].decode("latin-1").lower()
    ranges = dict(_media_ranges(accept))
    preferences = {offer: _preference(ranges, offer) for offer in offers}
    best = max(offers, key=lambda offer: preferences[offer])
    weight, _ = preferences[best]
    return best if weight > 0 else None


def _media_ranges(accept: str) -> Iterator[tuple[str, tuple[float, int]]]:
    """Each media range with its preference: its weight (0 to 1), then its negated position."""
    for position, part in enumerate(accept.split(",")):
        media_range, *pairs = (piece.strip() for piece in part.split(";"))
        parameters = dict(pair.partition("=")[::2] for pair in pairs)
        if parameters.get("charset", "utf-8").strip('"') in ("utf-8", "utf8"):
            yield media_range, (_weight(parameters.get("q", "1")), -position)


_WEIGHT: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def _weight(text: str) -> float:
    return float(text) if _WEIGHT.fullmatch(text) else 0.0


def _preference(ranges: Mapping[str, tuple[float, int]], offer: str) -> tuple[float, int]:
    """The preference of the most specific range that matches an offer."""
    kind = offer.partition("/")[0]
    names = (offer, f"{kind}/*", "*/*")
    return next((ranges[name] for name in names if name in ranges), (0.0, 0))
