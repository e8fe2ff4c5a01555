"""`.env` in the environment: read by one process, and found there by those that it starts."""

from __future__ import annotations

import os

from api.settings import Settings, SettingsError, env_file, load


class Lent:
    """The settings of `.env` as variables of this process, which can be read anew and taken back.

    Workers that read the file themselves would find out one by one what is wrong with it, and at
    any time: when one has died, and another is started in its place.
    """

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._before: dict[str, str] = {}

    def renew(self) -> Settings:
        """Read `.env` anew.

        Raises:
            SettingsError: the settings cannot be used, and the environment is as it was.
        """
        before = self._now
        # Nothing of the old file may be found by the new one, whose values can name variables.
        self._put({})
        try:
            self._put(_settings_of_file())
            settings = load(_env_file=None)
        except SettingsError:
            self._put(before)
            raise
        self._before = before
        return settings

    def keep(self, **variables: str) -> None:
        """Let these be as they are, whatever `.env` says from now on."""
        self._now = {name: value for name, value in self._now.items() if name not in variables}
        os.environ.update(variables)

    def undo(self) -> None:
        """Return to what was read before."""
        self._put(self._before)

    def _put(self, variables: dict[str, str]) -> None:
        for name in self._now:
            os.environ.pop(name, None)
        os.environ.update(variables)
        self._now = variables


def _settings_of_file() -> dict[str, str]:
    # The environment comes first, unless what it says is empty.
    given = {name.upper() for name, value in os.environ.items() if value}
    settings = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in env_file().items() if name in settings - given}
