"""What compiled functions read from, and what they fill."""

from typing import Any, Final

import msgspec
from graphql import Undefined
from strawberry.execution import optimized_is_awaitable

from .leaves import Bail


def struct_type(keys: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct that msgspec writes with these keys; its attributes are f0, f1, …"""
    return msgspec.defstruct(
        "Selected",
        [(f"f{number}", Any, None) for number in range(len(keys))],
        rename={f"f{number}": key for number, key in enumerate(keys)},
        gc=False,
    )


PLAIN: Final[set[type]] = set()
"""Types whose values are objects to read from: neither null, nor errors, nor awaitable."""


def vet(value: Any) -> None:
    """Note that values of this type are plain.

    Raises:
        Bail: the value is not.
    """
    if value is None or value is Undefined or isinstance(value, Exception):
        raise Bail
    if optimized_is_awaitable(value):
        raise Bail
    if len(PLAIN) > 1000:
        # Someone makes types at run time: do not keep them all alive.
        PLAIN.clear()
    PLAIN.add(type(value))
