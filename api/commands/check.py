"""`twofold check`: print the settings, and every problem with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from pydantic import SecretStr

from api.commands.errors import CommandError
from api.dotenv import environment_variables, read_dotenv
from api.setting_values import mask
from api.settings import Settings, SettingsError, load

# Variables of the auth server that resemble ours.
_AUTH_SERVER_VARIABLES: Final = {"BETTER_AUTH_SECRET", "BETTER_AUTH_URL"}

# difflib's ratio from which a name counts as misspelled: RATE_LIMIT_REED, DATABASE_URI.
_SIMILARITY: Final = 0.85


def check() -> None:
    """Print every setting by the name of its variable; secrets are masked.

    Raises:
        CommandError: settings are missing or invalid; the message lists all of them.
    """
    problems: list[str] = []
    try:
        values = load().effective()
    except SettingsError as error:
        problems = error.problems
        values = unvalidated_settings()
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:{width}}  {value}".rstrip())
    print()
    for note in _misspelled():
        print(f"Note: {note}")
    if problems:
        raise CommandError(*problems, exit_code=2)
    print("The settings are valid. No connection was tried.")


def unvalidated_settings() -> dict[str, str]:
    """Every setting by the name of its variable, valid or not, or its default; secrets masked."""
    variables = environment_variables()
    # If the file cannot be read, that is one of the problems already.
    with suppress(SettingsError):
        variables = read_dotenv() | variables
    values = {}
    for name, field in Settings.model_fields.items():
        text = variables.get(name.upper())
        value = text or field.get_default(call_default_factory=True)
        is_secret = "Secret" in str(field.annotation)
        values[name.upper()] = mask(SecretStr(text) if text and is_secret else value)
    return values


def _misspelled() -> Iterator[str]:
    """A sentence for each variable whose name is almost that of a setting."""
    settings = [name.upper() for name in Settings.model_fields]
    for name in sorted(_candidates() - {*settings} - _AUTH_SERVER_VARIABLES):
        for setting in get_close_matches(name, settings, n=1, cutoff=_SIMILARITY):
            yield f"{name} is not a setting; {setting} is."


def _candidates() -> set[str]:
    """All variables in `.env`, and those of the environment with the first word of a setting."""
    first_words = {name.split("_")[0].upper() for name in Settings.model_fields if "_" in name}
    names = {
        name
        for name in environment_variables()
        if "_" in name and name.split("_")[0] in first_words
    }
    with suppress(SettingsError):
        names |= read_dotenv().keys()
    return names
