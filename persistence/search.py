"""Text as a search compares it: without case, accents and width. Decided here, not by a collation.

A task's text is stored beside it. Words have no line break, so it separates title and description.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final

SEPARATOR: Final = "\n"
"""Between the parts of a task's text. No part has it."""


def searchable(text: str | None) -> str:
    """The text without case, accents and width, its words separated by one space each.

    NFKC, case folding, then without marks (Unicode's category M).
    """
    text = text or ""
    if text.isascii():
        return " ".join(text.casefold().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = unicodedata.normalize("NFKD", folded).translate(_without_marks())
    # Composed again: Hangul would be three times as long.
    return " ".join(unicodedata.normalize("NFC", letters).split())


@cache
def _without_marks() -> dict[int, None]:
    """For ``str.translate``: removes every mark, ten times as fast as a loop over a text."""
    return {
        code: None
        for first, last in _MARKS
        for code in range(first, last)
        if unicodedata.category(chr(code)).startswith("M")
    }


_MARKS: Final = ((0x300, 0x20000), (0xE0100, 0xE01F0))
"""Where Unicode has marks: in the first two planes, and variation selectors."""


def patterns(query: str) -> list[str]:
    """A ``LIKE`` pattern for each word of a query."""
    return [f"%{_escaped(word)}%" for word in searchable(query).split(" ") if word]


def _escaped(word: str) -> str:
    for special in ("\\", "%", "_"):
        word = word.replace(special, f"\\{special}")
    return word


def has_every_word(query: str, texts: Sequence[str | None]) -> bool:
    """Whether every word of the query is in one of the texts, anywhere in a word."""
    searched = SEPARATOR.join(map(searchable, texts))
    return all(word in searched for word in searchable(query).split(" "))
