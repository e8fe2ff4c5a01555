"""Variables from the environment and from the file `.env`, as text.

Only `Settings` interprets their values.
"""

from __future__ import annotations

import os
from pathlib import Path

from api.dotenv_file import DotenvError, environment_variables, read_lines
from api.settings import DOTENV_FILE, Settings, SettingsError, load, setting_names


def read_variable(name: str) -> str | None:
    """A variable of the environment, or else of `.env`; None if it is unset or empty.

    Raises:
        SettingsError: `.env` cannot be read.
    """
    return environment_variables().get(name) or read_dotenv().get(name)


def load_database_url() -> str:
    """``DATABASE_URL`` alone, for migrations, which need no other setting.

    Raises:
        SettingsError: it is missing, or `.env` cannot be read.
    """
    url = read_variable("DATABASE_URL")
    if url is None:
        raise SettingsError(["DATABASE_URL: It is missing."])
    return url


def read_dotenv() -> dict[str, str]:
    """The variables of `.env` that are not empty, with names in upper case.

    Raises:
        SettingsError: the file exists, but it or one of its lines cannot be read.
    """
    try:
        return read_lines(Path(DOTENV_FILE), setting_names())
    except DotenvError as error:
        raise SettingsError(error.problems) from None


class DotenvVariables:
    """Copies the settings in `.env` into this process's environment, for its worker processes.

    Workers read their settings from the environment alone. If they read the file themselves, a
    worker that replaces another one could fail because of a later change of the file.
    """

    def __init__(self) -> None:
        self._current: dict[str, str] = {}
        self._previous: dict[str, str] = {}

    def reload(self) -> Settings:
        """Read `.env` again, replace the variables of the last reading, and load the settings.

        Raises:
            SettingsError: the settings are invalid; the environment is unchanged.
        """
        previous = self._current
        # The environment that the file comes after is the one without the last reading.
        self._replace_with({})
        try:
            self._replace_with(_dotenv_settings())
            settings = load(dotenv=False)
        except SettingsError:
            self._replace_with(previous)
            raise
        self._previous = previous
        return settings

    def pin(self, **variables: str) -> None:
        """Set variables that later readings of `.env` do not change."""
        self._current = {
            name: value for name, value in self._current.items() if name not in variables
        }
        os.environ.update(variables)

    def restore(self) -> None:
        """Return to the variables before the last ``reload``."""
        self._replace_with(self._previous)

    def _replace_with(self, variables: dict[str, str]) -> None:
        for name in self._current:
            os.environ.pop(name, None)
        os.environ.update(variables)
        self._current = variables


def _dotenv_settings() -> dict[str, str]:
    """The settings in `.env` that the environment does not set."""
    names = setting_names() - environment_variables().keys()
    return {name: value for name, value in read_dotenv().items() if name in names}
