"""The values that compiled functions read, and the structs that they create."""

from typing import Any, Final

import msgspec
from graphql import Undefined
from strawberry.execution import optimized_is_awaitable

from .leaves import UnexpectedValue


def struct_type(keys: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct that msgspec writes with these keys; its attributes are f0, f1, …"""
    return msgspec.defstruct(
        "Selected",
        [(f"f{number}", Any, None) for number in range(len(keys))],
        rename={f"f{number}": key for number, key in enumerate(keys)},
        gc=False,
    )


PLAIN: Final[set[type]] = set()
"""Types whose values are objects with attributes: neither null, nor errors, nor awaitable."""


def require_plain(value: Any) -> None:
    """Check that a value is plain, and add its type to `PLAIN`.

    Raises:
        UnexpectedValue: the value is not.
    """
    if value is None or value is Undefined or isinstance(value, Exception):
        raise UnexpectedValue
    if optimized_is_awaitable(value):
        raise UnexpectedValue
    if len(PLAIN) > 1000:
        # Types that are created at run time must not all stay alive.
        PLAIN.clear()
    PLAIN.add(type(value))
