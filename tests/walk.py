"""Which functions of ours a text passes on its way to a statement, and back to the response."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from persistence.database import Database

_ROOT: Final = Path(__file__).parents[1]
_OURS: Final = tuple(
    f"{_ROOT / name}/" for name in ("api", "graphql_schema", "persistence", "rest")
)
# Written by us while the process runs: compiled selections, and the encoders of rows.
_GENERATED: Final = ("<selection>", "<rows>")

_STATEMENT: Final = Database.write.__code__

_DEEPEST: Final = 5


class Walk:
    """Follows a text through the functions that are called while it is watched.

    A function counts if it gets the text (as an argument, in whatever form, or from a function that
    it called) and gives it on: it returns it, or a function further down gets it. One that only
    looks at it does not count: it asks whether a member is allowed, or makes another text of it.

    Attributes:
        there: the functions from ASGI's ``receive`` to the one that runs the statement, without
            that one, which is the same for every statement.
        back: the functions from its records to the bytes of the response's body.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._has: set[CodeType] = set()
        self._on_the_way: list[CodeType] = []
        self._is_running = False
        self._is_back = False
        self.there: list[str] = []
        self.back: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follow the text in this block, in this thread."""
        sys.setprofile(self._watch)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._end()

    def _watch(self, frame: FrameType, event: str, value: object) -> None:
        if event == "call" and is_ours(frame.f_code) and not self._is_running:
            values = [each for each in _arguments(frame) if not self._is_end(each)]
            if any(map(self._holds, values)):
                self._get(frame)
                if frame.f_code is _STATEMENT:
                    self._end()
                    self._is_running = True
        elif event == "return" and self._holds(value):
            if frame.f_code is _STATEMENT:
                self._is_running, self._is_back = False, True
            elif is_ours(frame.f_code) and not self._is_running:
                self._give(frame.f_code)
            above = frame.f_back
            if above and is_ours(above.f_code) and not (self._is_running or self._is_end(value)):
                self._get(above)

    def _is_end(self, value: object) -> bool:
        """Whether it is the response's body: what becomes of that is the same for all of them."""
        return self._is_back and type(value) is bytes

    def _get(self, frame: FrameType) -> None:
        self._has.add(frame.f_code)
        above = frame.f_back
        while above:
            if above.f_code in self._has:
                self._give(above.f_code)
            above = above.f_back

    def _give(self, code: CodeType) -> None:
        is_part = code.co_name in ("<listcomp>", "<dictcomp>", "<genexpr>")
        if code not in self._on_the_way and not is_part and code is not _STATEMENT:
            self._on_the_way.append(code)

    def _end(self) -> None:
        names = [each.co_qualname for each in self._on_the_way]
        if self._is_back:
            self.back = names
        else:
            self.there = names
        self._has.clear()
        self._on_the_way.clear()

    def _holds(self, value: Any, depth: int = _DEEPEST) -> bool:
        match value:
            case str():
                return self._text in value
            case bytes() | bytearray():
                return self._text.encode() in value
            case dict():
                members: Any = value.values()
            case list() | tuple():
                members = value
            case CoroutineType() if value.cr_frame and is_ours(value.cr_code):
                # Of a function that begins later.
                members = value.cr_frame.f_locals.values()
            case BaseModel():
                members = vars(value).values()
            case msgspec.Struct():
                members = (getattr(value, name) for name in value.__struct_fields__)
            case _ if type(value).__name__ == "Record":
                members = value
            case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
                members = (getattr(value, each.name, None) for each in dataclasses.fields(value))
            case _:
                return False
        return depth > 0 and any(self._holds(each, depth - 1) for each in members)


def is_ours(code: CodeType) -> bool:
    """Whether a function is ours, tests excluded."""
    return code.co_filename.startswith(_OURS) or code.co_filename in _GENERATED


def _arguments(frame: FrameType) -> list[Any]:
    code = frame.f_code
    number = code.co_argcount + code.co_kwonlyargcount
    number += bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    return [frame.f_locals.get(name) for name in code.co_varnames[:number]]
