"""What every command needs: the variables as they were given, and a way to say no."""

from __future__ import annotations

import os

from dotenv import dotenv_values

from api.settings import Settings, SettingsError, load


class Refusal(Exception):
    """Why a command cannot do its work: sentences for the terminal, and an exit code."""

    def __init__(self, *sentences: str, code: int = 1) -> None:
        self.sentences = sentences
        self.code = code
        super().__init__(*sentences)


def given(name: str) -> str | None:
    """A variable as the settings find it: in the environment, else in `.env`; empty is unset."""
    return os.environ.get(name) or dotenv_values(".env").get(name) or None


def load_settings() -> Settings:
    """The settings.

    Raises:
        Refusal: something is missing or wrong; it names everything at once.
    """
    try:
        return load()
    except SettingsError as error:
        problems = [f"  {problem}" for problem in error.problems]
        raise Refusal("The settings cannot be used:", *problems, code=2) from None
