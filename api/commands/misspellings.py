"""Names of variables that look like misspelled settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from api.dotenv import read_dotenv
from api.dotenv_file import environment_variables
from api.settings import SettingsError, setting_names

# Variables of the auth server that resemble ours.
_AUTH_SERVER_VARIABLES: Final = frozenset({"BETTER_AUTH_SECRET", "BETTER_AUTH_URL"})

# Fewer letters, and an unrelated name of one word differs from HOST or PORT by one letter.
_TELLING_LETTERS: Final = 8

# From so many letters on, a word counts as misspelled with two wrong ones.
_LONG_WORD: Final = 8


def misspellings() -> Iterator[str]:
    """A sentence for each variable of the environment or of `.env` that looks like a setting."""
    dotenv: set[str] = set()
    with suppress(SettingsError):  # That is another problem, which is reported elsewhere.
        dotenv = {*read_dotenv()}
    settings = sorted(setting_names())
    for name in sorted({*environment_variables()} | dotenv):
        meant = meant_setting(name, settings, in_dotenv=name in dotenv)
        if meant:
            yield f"{name} is not a setting; {meant} is."


def meant_setting(name: str, settings: Iterable[str], *, in_dotenv: bool = False) -> str | None:
    """The setting whose name a variable's name misspells, or ``None``.

    Each word may have a letter too many, too few, wrong, or two in the wrong order, and a long one
    two of these. Words may be joined, split or in another order. A name with all words of a setting
    and more is somebody else's: ``UV_LOG_LEVEL``.

    Args:
        name: in upper case.
        in_dotenv: whether it is in `.env`, which is ours: there, short names count as well.
    """
    if name in _AUTH_SERVER_VARIABLES or name in {*settings}:
        return None
    words = name.split("_")
    for setting in settings:
        own = setting.split("_")
        is_telling = in_dotenv or len(setting) >= _TELLING_LETTERS
        if is_telling and not {*own} < {*words} and _is_misspelled(words, own):
            return setting
    return None


def _is_misspelled(words: list[str], own: list[str]) -> bool:
    if len(words) != len(own):
        return _distance("".join(words), "".join(own)) <= 1
    pairs = zip(words, own, strict=True)
    return sorted(words) == sorted(own) or all(
        _distance(word, right) <= (2 if len(right) >= _LONG_WORD else 1) for word, right in pairs
    )


def _distance(one: str, other: str) -> int:
    """The number of letters to insert, remove, replace or swap with the next one; or 3 if more."""
    if abs(len(one) - len(other)) > 2:
        return 3
    rows: list[list[int]] = [[*range(len(other) + 1)]]
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            costs: list[int] = [rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != right)]
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], right):
                costs.append(rows[-2][j - 2] + 1)
            row.append(min(costs))
        rows.append(row)
    return min(rows[-1][-1], 3)
