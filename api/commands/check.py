"""`twofold check`: the settings as they are read, and what is wrong with them."""

from __future__ import annotations

from api.commands.terminal import Refusal
from api.settings import SettingsError, as_given, load


def check() -> None:
    """Print every setting by its variable's name, with what is secret masked.

    Raises:
        Refusal: something is missing or wrong; it names everything at once.
    """
    problems: list[str] = []
    try:
        shown = load().masked()
    except SettingsError as error:
        problems = error.problems
        shown = as_given()
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:{width}}  {value}".rstrip())
    print()
    if problems:
        raise Refusal(*problems, code=2)
    print("Nothing is wrong with these settings.")
