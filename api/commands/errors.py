"""The error of the commands."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do its work.

    Args:
        lines: the lines to print on standard error.
        exit_code: the exit code of the process.
    """

    def __init__(self, *lines: str, exit_code: int = 1) -> None:
        self.lines = lines
        self.exit_code = exit_code
        super().__init__(*lines)
