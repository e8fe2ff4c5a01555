"""How OpenAPI describes the responses of routes."""

from __future__ import annotations

from typing import Any


def success(description: str, headers: dict[str, Any]) -> dict[str, Any]:
    """A successful response, for a route's ``responses``.

    Args:
        headers: the header objects, by name.
    """
    return {"description": description, "headers": headers}
