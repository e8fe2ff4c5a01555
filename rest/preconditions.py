"""Conditional requests: ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, 13)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends
from starlette.requests import Request

from persistence.errors import FieldError, InvalidInput
from persistence.task_inputs import shown

_MAX_VERSION: Final = 2**31 - 1

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE; a list may have empty elements.
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,(?:[ \t]*{_TAG.pattern})?)*[ \t]*")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")


class Condition(NamedTuple):
    """The versions a client named; ``None`` stands for any (``*``)."""

    versions: list[int] | None

    def holds_for(self, version: int) -> bool:
        """Whether a task at this version is one that the client named."""
        return self.versions is None or version in self.versions


def etag(version: int) -> str:
    """The entity tag of a task at a version."""
    return f'"{version}"'


def if_match(request: Request) -> Condition:
    """The versions at which a write may happen; without the header, any.

    Raises:
        InvalidInput: the header is malformed.
    """
    return _condition(request, "If-Match") or Condition(None)


def if_none_match(request: Request) -> Condition | None:
    """The versions that the client has, or ``None`` when it does not say.

    Raises:
        InvalidInput: the header is malformed.
    """
    return _condition(request, "If-None-Match")


IfMatch = Annotated[Condition, Depends(if_match)]
IfNoneMatch = Annotated[Condition | None, Depends(if_none_match)]


def _condition(request: Request, header: str) -> Condition | None:
    values = request.headers.getlist(header)
    if not values:
        return None
    text = ", ".join(values).strip()
    if text == "*":
        return Condition(None)
    if not _LIST.fullmatch(text):
        message = 'Should be "*" or a list of entity tags, each in double quotes'
        raise InvalidInput([FieldError(header, message, "etag_invalid", shown(text))])
    # Weak tags count: proxies that compress weaken ours. A tag that is no version of ours is
    # well-formed, and matches nothing.
    found = (tag for tag in _TAG.findall(text) if _VERSION.fullmatch(tag))
    return Condition([int(tag) for tag in found if int(tag) <= _MAX_VERSION])


def documented(header: str, description: str) -> dict[str, Any]:
    """OpenAPI's words for one of these headers."""
    return {
        "parameters": [
            {
                "name": header,
                "in": "header",
                "required": False,
                "description": description,
                "schema": {
                    "type": "string",
                    "pattern": r'^([*]|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$',
                    "examples": ['"1"'],
                },
            }
        ]
    }
