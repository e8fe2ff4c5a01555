"""Rows as JSON. Timestamps get the contract's form by their type, whatever their names are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import msgspec

from api.http.json import encode_json, instant

Row = TypeVar("Row", bound=msgspec.Struct)


class RowEncoder(Generic[Row]):
    """Encodes rows of one type, with every timestamp in the contract's form.

    msgspec writes a timestamp in that form, except where its microseconds are zero: one in a
    million. Only rows with such a timestamp are copied and corrected (``api.http.json.instant``).

    Args:
        row_type: a struct; its timestamps are annotated ``datetime`` or ``datetime | None``.
    """

    def __init__(self, row_type: type[Row]) -> None:
        hints = get_type_hints(row_type)
        self._timestamps = [
            name
            for name in row_type.__struct_fields__
            if hints[name] is datetime or datetime in get_args(hints[name])
        ]
        is_right = " and ".join(
            f"(row.{name} is None or row.{name}.microsecond)"
            if hints[name] is not datetime
            else f"row.{name}.microsecond"
            for name in self._timestamps
        )
        # Compiled from the names, because a loop over them would double the cost of a list. Safe:
        # they are a struct's fields, so they are identifiers.
        self._is_right: Callable[[Row], object] = _evaluate(f"lambda row: {is_right or True}")
        self._corrected_all: Callable[[Sequence[Row]], list[Any]] = _evaluate(
            f"lambda rows: [row if {is_right or True} else correct(row) for row in rows]",
            correct=self._corrected,
        )

    def one(self, row: Row) -> bytes:
        """A row as a JSON object."""
        return encode_json(row if self._is_right(row) else self._corrected(row))

    def many(self, rows: Sequence[Row]) -> bytes:
        """Rows as a JSON array."""
        return encode_json(self._corrected_all(rows))

    def _corrected(self, row: Row) -> dict[str, Any]:
        document = msgspec.structs.asdict(row)
        for name in self._timestamps:
            if document[name] is not None:
                document[name] = instant(document[name])
        return document


def _evaluate(source: str, **names: object) -> Any:
    return eval(compile(source, "<rows>", "eval"), names)  # noqa: S307
