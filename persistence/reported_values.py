"""How an error repeats a rejected value: bounded, as JSON, and never a secret."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

VALUE_LENGTH: Final = 200
"""The most that an error repeats of a rejected value, in code points."""


def reported_value(value: Any, field: str = "") -> Any:
    """A rejected value as an error may repeat it: JSON, cut at ``VALUE_LENGTH``, never a secret.

    Returns ``None`` if the value, or the name of its field, may be a secret, or if JSON cannot
    carry the value.
    """
    if _SECRET.search(field):
        return None
    if isinstance(value, str):
        return encodable(value)[:VALUE_LENGTH]
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError, UnicodeError):
        return None
    if _SECRET.search(text):
        return None
    return value if len(text) <= VALUE_LENGTH else text[:VALUE_LENGTH]


_SECRET: Final = re.compile("token|secret|password|authorization|cookie", re.IGNORECASE)


def encodable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
