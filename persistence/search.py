"""Text as a search compares it: without case, accents and width. Decided here, not by a collation.

A task's text is stored beside it. Words have no line break, so it separates title and description.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

SEPARATOR: Final = "\n"
"""Between the parts of a task's text. No part has it."""


def searchable(text: str | None) -> str:
    """The text without case, accents and width, its words separated by one space each.

    NFKC, case folding, then without marks (Unicode's category M).
    """
    folded = unicodedata.normalize("NFKC", text or "").casefold()
    letters = (
        letter
        for letter in unicodedata.normalize("NFKD", folded)
        if not unicodedata.category(letter).startswith("M")
    )
    # Composed again: Hangul would be three times as long.
    return " ".join(unicodedata.normalize("NFC", "".join(letters)).split())


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
