"""Holds every answer of the app against the OpenAPI document: nothing undocumented is answered."""

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
    """What the document says an operation can answer; nothing, when it knows no such operation.

    Args:
        path: as a client sends it, with or without a slash at its end.
    """
    method = "get" if method == "HEAD" else method.lower()
    found = (
        operations[method]["responses"]
        for template, operations in DOCUMENT["paths"].items()
        if method in operations and _matches(template, path)
    )
    return {int(status) for status in next(found, ())}


def _matches(template: str, path: str) -> bool:
    pattern = re.sub(r"\\{\w+\\}", r"(?!bulk-delete/?$)[^/]+", re.escape(template))
    return re.fullmatch(f"{pattern}/?", path) is not None


async def check(response: httpx.Response) -> None:
    """For a client's ``event_hooks``: fail on a status that the document does not have."""
    request = response.request
    known = statuses(request.method, request.url.path)
    assert not known or response.status_code in known, f"{request} -> {response.status_code}"
