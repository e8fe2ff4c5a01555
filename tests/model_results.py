"""What the model returns: tasks, pages, failures, and what is charged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from tests.operations import (
    Api,
    Deleted,
)

MAX_ID: Final = 2**63 - 1
MAX_PAGE: Final = 1000
MAX_NEW: Final = 100
TASKS_A_WRITE: Final = 20
MAX_INT: Final = 2**31 - 1
"""The largest value of GraphQL's ``Int``."""

# Unicode's property White_Space; not U+001C to U+001F, U+180E, U+200B or U+FEFF.
WHITE_SPACE: Final = "".join(
    map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029])
) + "\u202f\u205f\u3000"  # fmt: skip

PRIORITIES: Final = ("none", "low", "medium", "high")

DUES: Final = ("2025-12-10", None, "2025-12-10T00:00:00.000000Z", "2025-12-09T23:30:00.000000Z")
"""When tasks are due that are added without a request."""

FOREIGN_IDS: Final = (10**6 + 1, 10**6 + 2, 10**6 + 3)
"""The ids of another user's tasks, of which the last one is in the trash."""


class Cursor(NamedTuple):
    """A position in a list: after this version of a task. By creation, all versions are one."""

    order: str
    id: int
    version: int


FOREIGN_CURSOR: Final = Cursor("created_desc", 0, 0)
"""Another user's cursor, at a position after all of the user's own tasks."""


class Kind(StrEnum):
    """The budget that a request is charged to."""

    READ = "read"
    WRITE = "write"


# --- Results ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task, without what the server adds: its owner and its times."""

    id: int
    title: str
    description: str | None
    completed: bool
    due: str | None = None
    priority: str = "none"
    tags: list[str] = field(default_factory=list)
    version: int = 1


class Deletion(NamedTuple):
    """A position in the trash: the cursor after a deleted task.

    Attributes:
        number: of the operation that deleted it.
    """

    number: int
    id: int


class Page(NamedTuple):
    """A part of the list or of the trash. Only GraphQL has ``total`` and ``has_previous``."""

    tasks: list[Task]
    cursor: Cursor | Deletion | None
    total: int | None = None
    has_previous: bool | None = None


class Updated(NamedTuple):
    """The result of a bulk change."""

    updated: list[Task]
    not_found: list[int]


class Success(NamedTuple):
    """The operation was done; the value is the result."""

    value: Task | list[Task] | Page | Updated | Deleted | int | None


class Problem(NamedTuple):
    """One error of an input."""

    field: str
    code: str
    value: Any


class Failure(NamedTuple):
    """The operation was refused."""

    type: str
    status: int
    detail: str
    problems: list[Problem]


class TypeFailure(NamedTuple):
    """GraphQL's own type system refuses the variables, in graphql-core's words."""

    type: str = "validation_error"
    status: int = 400


Result = Success | Failure | TypeFailure


class Expected(NamedTuple):
    """The result in an API, and how much is taken from which budget.

    ``is_replayed``: the result is that of an earlier request with the same idempotency key.
    """

    result: Result
    charged: Kind
    amount: int = 1
    is_replayed: bool = False


class Remembered(NamedTuple):
    """What a key was used for: through which API, for which request, and with which result."""

    api: Api
    request: Any
    result: Result
