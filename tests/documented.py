"""Compares the status of every response with the OpenAPI document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

_FILE = Path(__file__).parents[1] / "rest" / "openapi.json"
DOCUMENT = json.loads(_FILE.read_text(encoding="utf-8"))

OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
"""Each operation's method and path, by its id."""


def statuses(method: str, path: str) -> set[int]:
    """The documented statuses of an operation; none if it is not documented.

    Args:
        path: as sent, with or without a slash at its end.
    """
    method = "get" if method == "HEAD" else method.lower()
    documented = (
        operations[method]["responses"]
        for template, operations in DOCUMENT["paths"].items()
        if method in operations and _matches(template, path)
    )
    return {int(status) for status in next(documented, ())}


def _matches(template: str, path: str) -> bool:
    pattern = re.sub(
        r"\\{\w+\\}",
        r"(?!(bulk-create|bulk-update|bulk-delete|changes|trash)(/|$))[^/]+",
        re.escape(template),
    )
    return re.fullmatch(f"{pattern}/?", path) is not None


async def check(response: httpx.Response) -> None:
    """For the ``event_hooks`` of a client: fail on a status that is not documented."""
    request = response.request
    status, documented = response.status_code, statuses(request.method, request.url.path)
    assert not documented or status in documented, f"{request} -> {status}"
