"""What an input object of a request holds."""

from __future__ import annotations

from typing import Any

from strawberry import UNSET


def provided(source: Any) -> dict[str, Any]:
    """The members of an input object that the client sent; absent and null differ.

    Args:
        source: an instance of a ``strawberry.input``, whose fields default to ``UNSET``.
    """
    return {name: value for name, value in vars(source).items() if value is not UNSET}
