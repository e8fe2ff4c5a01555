"""The headers of a request, as the client sent them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

_SCOPE_KEY: Final = "twofold.headers"


def header_values(scope: Scope, name: bytes) -> Sequence[bytes]:
    """Every value of a header, in the order in which they were sent.

    Args:
        name: the header's name, in lower case.
    """
    headers: dict[bytes, list[bytes]] | None = scope.get(_SCOPE_KEY)
    if headers is None:
        # Once for all headers: a request has about ten, and as many are looked for.
        headers = scope[_SCOPE_KEY] = {}
        for key, value in scope["headers"]:
            if key in headers:
                headers[key].append(value)
            else:
                headers[key] = [value]
    return headers.get(name, ())


def set_header(scope: Scope, name: bytes, value: bytes) -> None:
    """Replace a header in a scope, as if the client had sent it.

    Args:
        name: the header's name, in lower case.
    """
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != name] + [(name, value)]
    scope.pop(_SCOPE_KEY, None)
