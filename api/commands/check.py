"""`twofold check`: print the settings, and every problem with them."""

from __future__ import annotations

from contextlib import suppress

from pydantic import SecretStr

from api.commands.errors import CommandError
from api.commands.misspellings import misspellings
from api.commands.sizing import sizing
from api.dotenv import read_dotenv
from api.dotenv_file import environment_variables
from api.setting_values import mask
from api.settings import Settings, SettingsError, load


def check(instances: int | None = None) -> None:
    """Print every setting by the name of its variable; secrets are masked.

    Args:
        instances: how many run, to compare their connections with what the database allows.
            ``None``: connect to nothing.

    Raises:
        CommandError: settings are missing or invalid; the message lists all of them. Or the
            database did not answer.
    """
    problems: list[str] = []
    try:
        settings = load()
        values = settings.effective()
    except SettingsError as error:
        problems = error.problems
        values = unvalidated_settings()
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:{width}}  {value}".rstrip())
    print()
    for note in misspellings():
        print(f"Note: {note}")
    if problems:
        raise CommandError(*problems, exit_code=2)
    for sentence in sizing(settings, instances):
        print(sentence)
    tried = "" if instances else " No connection was tried."
    print(f"The settings are valid.{tried}")


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
