"""`twofold check`: the settings as they are read, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from api.commands.terminal import Refusal
from api.settings import Settings, SettingsError, as_given, env_file, load

# Of an auth server in the same environment, however much they look like ours.
_OF_OTHERS: Final = {"BETTER_AUTH_SECRET", "BETTER_AUTH_URL"}

# How alike two names are, one of which must be a slip: RATE_LIMIT_REED, DATABASE_URI.
_ALIKE: Final = 0.85


def check() -> None:
    """Print every setting by its variable's name, with what is secret masked.

    Raises:
        Refusal: something is missing or wrong; it names everything at once.
    """
    problems: list[str] = []
    try:
        shown = load().effective()
    except SettingsError as error:
        problems = error.problems
        shown = as_given()
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:{width}}  {value}".rstrip())
    print()
    for note in _notes():
        print(f"Note: {note}")
    if problems:
        raise Refusal(*problems, code=2)
    print("Nothing is wrong with these settings. Whether what they name answers was not tried.")


def _notes() -> Iterator[str]:
    """What looks like a setting of ours, and is none."""
    settings = [name.upper() for name in Settings.model_fields]
    for name in sorted(_named() - {*settings} - _OF_OTHERS):
        for meant in get_close_matches(name, settings, n=1, cutoff=_ALIKE):
            yield f"{name} is not a setting; {meant} is."


def _named() -> set[str]:
    """The variables that may be meant for us: those of `.env`, and others that begin as ours do."""
    beginnings = {name.split("_")[0].upper() for name in Settings.model_fields if "_" in name}
    named = {name.upper() for name in os.environ}
    named = {name for name in named if "_" in name and name.split("_")[0] in beginnings}
    # That it cannot be read is among the problems already.
    with suppress(SettingsError):
        named |= env_file().keys()
    return named
