"""What every list needs that is read page by page. Knows no noun.

https://relay.dev/graphql/connections.htm
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import strawberry

from persistence.cursors import Position, encode_cursor
from persistence.errors import FieldError, InvalidInput

DEFAULT_PAGE_SIZE: Final = 50
"""The rows of a page if the client provides no ``first``."""


def require_page_size(first: int, max_page: int) -> None:
    """Check a page's size against the setting; the schema's own bound is validated elsewhere.

    Raises:
        InvalidInput: ``first`` is greater than ``max_page``.
    """
    if first > max_page:
        message = f"Input should be less than or equal to {max_page}"
        raise InvalidInput([FieldError("first", message, "less_than_equal", first)])


@strawberry.type(description="Where a page stands in the list.")
class PageInfo:
    """Resolved from ``PageView``, whose attributes have these names."""

    has_next_page: bool = strawberry.field(description="Whether there are more tasks after these.")
    has_previous_page: bool = strawberry.field(description="Whether the page began at a cursor.")
    start_cursor: str | None = strawberry.field(description="Of the first task here.")
    end_cursor: str | None = strawberry.field(description="Of the last task here.")


class Positioned(Protocol):
    """A row of a list."""

    @property
    def position(self) -> Position:
        """The row's position in the list's order."""


Row = TypeVar("Row", bound=Positioned)


class Edge(Generic[Row]):
    """A row of a page. Its cursor is encoded only if it is selected."""

    __slots__ = ("node",)

    def __init__(self, node: Row) -> None:
        self.node = node

    @property
    def cursor(self) -> str:
        """The cursor that continues the list after this row."""
        return encode_cursor(self.node.position)


@dataclass(frozen=True, slots=True)
class PageView(Generic[Row]):
    """A page as a connection type and ``PageInfo`` read it.

    Attributes:
        nodes: the rows.
        has_next_page: whether the list has rows after these.
        after: the cursor after which the page starts; ``None`` means the list's start.
    """

    nodes: list[Row]
    has_next_page: bool
    after: str | None

    @property
    def edges(self) -> list[Edge[Row]]:
        """The rows, each with its cursor."""
        return [Edge(row) for row in self.nodes]

    @property
    def page_info(self) -> PageView[Row]:
        """This page: ``PageInfo`` reads its attributes."""
        return self

    @property
    def has_previous_page(self) -> bool:
        """Whether the page starts at a cursor, which means after some row."""
        return self.after is not None

    @property
    def start_cursor(self) -> str | None:
        """The cursor of the first row; ``None`` for an empty page."""
        return encode_cursor(self.nodes[0].position) if self.nodes else None

    @property
    def end_cursor(self) -> str | None:
        """The cursor of the last row; ``None`` for an empty page."""
        return encode_cursor(self.nodes[-1].position) if self.nodes else None
