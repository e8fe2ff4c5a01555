"""What a client can do with tasks and what it gets back: plain data, the same for both protocols.

The wire format of each protocol is in ``tests.surfaces``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Api(StrEnum):
    """The protocol of a request."""

    REST = "rest"
    GRAPHQL = "graphql"


# --- Operations ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    """Create a task with these members."""

    members: Any


@dataclass(frozen=True)
class Get:
    """Read one task."""

    id: Any


@dataclass(frozen=True)
class List:
    """List tasks.

    Attributes:
        query: ``completed``, ``limit`` and ``cursor`` where present. ``None`` is null in GraphQL,
            and is not sent in REST.
        detailed: also select what only GraphQL has: a cursor for each task, and the total.
    """

    query: dict[str, Any]
    detailed: bool = False


@dataclass(frozen=True)
class Change:
    """Change these members of a task.

    Attributes:
        version: the version that the task must have; ``None`` accepts any.
        whole: send the read-only members too, as frontends do that send back a whole task.
    """

    id: Any
    members: Any
    version: int | None = None
    whole: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete one task; see ``Change`` for ``version``."""

    id: Any
    version: int | None = None


@dataclass(frozen=True)
class BulkCreate:
    """Create many tasks, each with its members."""

    tasks: Any


@dataclass(frozen=True)
class BulkUpdate:
    """Change these members of many tasks."""

    ids: Any
    members: Any


@dataclass(frozen=True)
class BulkDelete:
    """Delete many tasks."""

    ids: Any


@dataclass(frozen=True)
class ListChanges:
    """List what changed.

    Attributes:
        query: ``since`` and ``limit`` where present, as in ``List``.
    """

    query: dict[str, Any]


@dataclass(frozen=True)
class ListTrash:
    """List the trash.

    Attributes:
        query: ``limit`` and ``cursor``; see ``List``.
        detailed: see ``List``.
    """

    query: dict[str, Any]
    detailed: bool = False


@dataclass(frozen=True)
class Restore:
    """Take one task out of the trash."""

    id: Any


@dataclass(frozen=True)
class EmptyTrash:
    """Delete what is in the trash for good."""


Operation = (
    Create
    | Get
    | List
    | Change
    | Delete
    | BulkCreate
    | BulkUpdate
    | BulkDelete
    | ListChanges
    | ListTrash
    | Restore
    | EmptyTrash
)


# --- Results ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A task as a client receives it, in the contract's spelling of REST.

    ``deleted_at`` is present only in the trash.
    """

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    due: str | None
    priority: str
    tags: list[str]
    version: int
    created_at: str
    updated_at: str
    completed_at: str | None
    deleted_at: str | None = None


class Page(NamedTuple):
    """A part of the list. The attributes with a default exist only in detailed GraphQL lists.

    Attributes:
        next_cursor: the cursor of the next part, or ``None`` at the end.
        cursors: the cursor of each task.
        total: how many tasks pass the filter.
        has_previous: whether the page began at a cursor.
        sync_token: of the changes after the list.
    """

    tasks: list[Task]
    next_cursor: str | None
    cursors: list[str] | None = None
    total: int | None = None
    has_previous: bool | None = None
    sync_token: str | None = None

    @property
    def titles(self) -> list[str]:
        """The titles, in order."""
        return [task.title for task in self.tasks]


class Changes(NamedTuple):
    """Tasks that changed, and the token of what comes after them."""

    tasks: list[Task]
    token: str
    has_more: bool


class Deleted(NamedTuple):
    """The result of a bulk deletion."""

    deleted: list[int]
    not_found: list[int]


class Updated(NamedTuple):
    """The result of a bulk change."""

    updated: list[Task]
    not_found: list[int]


Result = Task | list[Task] | Page | Updated | Deleted | Changes | int | None
"""``None``: a task that GraphQL did not find, or a deletion in REST. A number: how many tasks were
in the trash that GraphQL emptied."""

EDITABLE: Final = ("title", "description", "completed", "due", "priority", "tags")
"""The members of a task that a client may set."""

FIELDS: Final = tuple(field.name for field in fields(Task))

READ_ONLY: Final = tuple(name for name in FIELDS if name not in EDITABLE)
"""The members that the server sets. A client may send them back; they are ignored."""
