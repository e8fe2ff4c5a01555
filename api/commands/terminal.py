"""What every command needs: the variables as they were given, and a way to say no."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from api.settings import SettingsError, env_file

T = TypeVar("T")


class Refusal(Exception):
    """Why a command cannot do its work: sentences for the terminal, and an exit code."""

    def __init__(self, *sentences: str, code: int = 1) -> None:
        self.sentences = sentences
        self.code = code
        super().__init__(*sentences)


def given(name: str) -> str | None:
    """A variable as the settings find it: in the environment, else in `.env`; empty is unset.

    Raises:
        Refusal: `.env` cannot be read.
    """
    return os.environ.get(name) or usable(env_file).get(name)


def usable(read: Callable[[], T]) -> T:
    """What was read of the environment and `.env`.

    Raises:
        Refusal: it cannot be used; it names everything at once.
    """
    try:
        return read()
    except SettingsError as error:
        problems = [f"  {problem}" for problem in error.problems]
        raise Refusal("The settings cannot be used:", *problems, code=2) from None
