"""The variables of the environment, and the lines of a `.env` file.

A line that cannot be read for certain is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream


class DotenvError(Exception):
    """A `.env` file cannot be read.

    Args:
        problems: one sentence for each problem, beginning with the file. None repeats a value.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(*problems)


def environment_variables() -> dict[str, str]:
    """The variables of the environment that are not empty, with names in upper case."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def read_lines(path: Path, settings: Collection[str]) -> dict[str, str]:
    """The variables of a file that are not empty, with names in upper case.

    Args:
        path: the file; if there is none, it has no variables.
        settings: the names in whose values ``${…}`` is an error, unless in single quotes. Whoever
            writes it expects something in its place, and nothing is ever put there.

    Raises:
        DotenvError: the file, or a line of it, cannot be read.
    """
    if not (path.is_file() or path.is_fifo()):
        return {}
    try:
        # A byte order mark, as Windows writes it, is not part of the first name.
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DotenvError([f"{path}: It cannot be read: {error.strerror}."]) from None
    except UnicodeDecodeError:
        raise DotenvError([f"{path}: It cannot be read: it is not UTF-8."]) from None
    variables, problems = {}, []
    for binding in parse_stream(StringIO(text)):
        name, value = (binding.key or "").upper(), binding.value or ""
        lines = binding.original.string
        # An entry includes the empty lines before it.
        empty = lines[: len(lines) - len(lines.lstrip())]
        line = binding.original.line + empty.count("\n")
        place = f"{path}, line {line}"
        is_literal = lines.partition("=")[2].lstrip().startswith("'")
        if binding.error or (binding.value is None and name in settings):
            problems.append(f"{place}: It is not NAME=value, or a quotation mark does not end.")
        elif "\0" in f"{name}{value}":
            problems.append(f"{place}: It holds a null character.")
        elif name in settings and "${" in value and not is_literal:
            problems.append(
                f"{place}: {name} holds ${{…}}, which is not filled in. Write its value, or put it"
                " in single quotes if it is meant."
            )
        elif value:
            variables[name] = value
    if problems:
        raise DotenvError(problems)
    return variables
