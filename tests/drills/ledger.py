"""What a service acknowledged, and so what may be stored."""

from __future__ import annotations

import secrets
from typing import Final

import asyncpg

ABSENT: Final = 0
"""In place of a version: there is no such task."""


class Ledger:
    """For each task, the versions at which it may be stored now. The title identifies a task.

    A writer calls ``sent`` before each request and ``acknowledged`` after its response. A request
    may be sent again, with the same effect. A task has one writer at a time.
    """

    def __init__(self) -> None:
        self._possible: dict[str, set[int]] = {}

    def new_title(self) -> str:
        """A title that no task has."""
        title = secrets.token_hex(8)
        self._possible[title] = {ABSENT}
        return title

    def sent(self, title: str, version: int) -> None:
        """A request was sent that may bring the task to this version, or to ``ABSENT``."""
        self._possible[title].add(version)

    def acknowledged(self, title: str, version: int) -> None:
        """The service confirmed that the task is at this version, or is ``ABSENT``."""
        self._possible[title] = {version}

    @property
    def unconfirmed(self) -> list[str]:
        """The titles of the tasks whose last change was not acknowledged."""
        return [title for title, possible in self._possible.items() if len(possible) > 1]

    async def assert_stored(self, sql: asyncpg.Connection, *, exclusive: bool = False) -> None:
        """Require that what was acknowledged is stored once, and all else at most once.

        Args:
            sql: a connection to the database of the service.
            exclusive: whether no other task may be stored.
        """
        stored: dict[str, list[int]] = {}
        for title, version in await sql.fetch(_LIVING):
            stored.setdefault(title, []).append(version)
        wrong = {
            title: (versions, possible)
            for title, possible in self._possible.items()
            for versions in [stored.get(title, [ABSENT])]
            if len(versions) > 1 or versions[0] not in possible
        }
        assert not wrong, f"{len(wrong)} tasks: {{title: (stored, possible)}} = {wrong}"
        unknown = stored.keys() - self._possible.keys()
        assert not (exclusive and unknown), f"{len(unknown)} unknown tasks: {unknown}"


_LIVING: Final = "SELECT title, version FROM tasks WHERE deleted_at IS NULL"
