"""What every list needs that is read page by page. Knows no resource.

https://relay.dev/graphql/connections.htm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

import strawberry
from strawberry import UNSET

from persistence.cursors import Position, encode_cursor
from persistence.errors import FieldError

DEFAULT_PAGE_SIZE: Final = 50
"""The rows of a page if the client provides neither ``first`` nor ``last``."""


class PageArguments(NamedTuple):
    """The paging arguments of a connection, of which one direction is used.

    Attributes:
        limit: the rows of the page.
        cursor: where it starts, or ends if ``backward``.
        backward: whether the page is read from its end.
        client_names: the client's names of ``limit`` and ``cursor``, for errors.
        errors: arguments of both directions, or a page larger than the setting allows.
    """

    limit: int
    cursor: str | None
    backward: bool
    client_names: dict[str, str]
    errors: list[FieldError]


def page_arguments(
    first: int | None,
    after: str | None,
    last: int | None = None,
    before: str | None = None,
    *,
    max_page: int,
    most: int,
) -> PageArguments:
    """Read the paging arguments: ``first`` and ``after``, or ``last`` and ``before``.

    Args:
        first: rows from the start, or after the cursor; ``UNSET`` and null mean the default.
        last: rows from the end, or before the cursor.
        max_page: the most rows in one page. Beyond ``most``, it is validated elsewhere.
        most: the most that any setting allows.
    """
    provided = {
        name: value
        for name, value in (("first", first), ("after", after), ("last", last), ("before", before))
        if value is not None and value is not UNSET
    }
    backward = "last" in provided or "before" in provided
    forbidden = ("first", "after") if backward else ()
    errors = [
        FieldError(name, "Should not be combined with last or before", "paging_arguments", value)
        for name in forbidden
        if (value := provided.get(name)) is not None
    ]
    names = ("last", "before") if backward else ("first", "after")
    limit = provided.get(names[0], DEFAULT_PAGE_SIZE)
    if isinstance(limit, int) and max_page < limit <= most:
        message = f"Input should be less than or equal to {max_page}"
        errors.append(FieldError(names[0], message, "less_than_equal", limit))
    client_names = {"limit": names[0], "cursor": names[1]}
    cursor = provided.get(names[1])
    return PageArguments(limit, cursor, backward, client_names, errors)  # type: ignore[arg-type]


@strawberry.type(description="Where a page stands in the list.")
class PageInfo:
    """Resolved from ``PageView``, whose attributes have these names."""

    has_next_page: bool = strawberry.field(
        description="Whether there are more tasks after these; backward, whether it ended at one."
    )
    has_previous_page: bool = strawberry.field(
        description="Whether there are tasks before these; forward, whether it began at a cursor."
    )
    start_cursor: str | None = strawberry.field(description="Of the first task here.")
    end_cursor: str | None = strawberry.field(description="Of the last task here.")


Row = TypeVar("Row")


class Edge(Generic[Row]):
    """A row of a page. Its cursor is encoded only if it is selected.

    Args:
        node: the row.
        position: a row's position in the order of the page.
    """

    __slots__ = ("_position", "node")

    def __init__(self, node: Row, position: Callable[[Row], Position]) -> None:
        self.node = node
        self._position = position

    @property
    def cursor(self) -> str:
        """The cursor that continues the list after this row."""
        return encode_cursor(self._position(self.node))


@dataclass(frozen=True, slots=True)
class PageView(Generic[Row]):
    """A page as a connection type and ``PageInfo`` read it.

    Attributes:
        nodes: the rows.
        has_more: whether the list has further rows in the direction of reading.
        cursor: the cursor at which the page starts, or ends if ``backward``; ``None`` means the
            list's start, or its end.
        backward: whether the page is read from its end.
        position: a row's position in the order of the page.
    """

    nodes: list[Row]
    has_more: bool
    cursor: str | None
    backward: bool
    position: Callable[[Row], Position]

    @property
    def edges(self) -> list[Edge[Row]]:
        """The rows, each with its cursor."""
        return [Edge(row, self.position) for row in self.nodes]

    @property
    def page_info(self) -> PageView[Row]:
        """This page: ``PageInfo`` reads its attributes."""
        return self

    @property
    def has_next_page(self) -> bool:
        """Whether the list has rows after these: a cursor stands at some row."""
        return self.cursor is not None if self.backward else self.has_more

    @property
    def has_previous_page(self) -> bool:
        """Whether the list has rows before these: a cursor stands at some row."""
        return self.has_more if self.backward else self.cursor is not None

    @property
    def start_cursor(self) -> str | None:
        """The cursor of the first row; ``None`` for an empty page."""
        return encode_cursor(self.position(self.nodes[0])) if self.nodes else None

    @property
    def end_cursor(self) -> str | None:
        """The cursor of the last row; ``None`` for an empty page."""
        return encode_cursor(self.position(self.nodes[-1])) if self.nodes else None
