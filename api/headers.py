"""The headers of a request, as the client sent them."""

from __future__ import annotations

from starlette.types import Scope


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in the order in which they were sent.

    Args:
        name: the header's name, in lower case.
    """
    return [value for key, value in scope["headers"] if key == name]
