"""Conditional requests: ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, 13)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends
from starlette.requests import Request

from api.headers import header_values
from persistence.errors import FieldError, InvalidInput
from persistence.validation import printable

_MAX_VERSION: Final = 2**31 - 1

# RFC 9110, 8.8.3: entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE. A list may have empty elements.
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,(?:[ \t]*{_TAG.pattern})?)*[ \t]*")
# Proxies that compress mark a tag: "1-gzip" (Apache), "1;gzip", "1--gzip" (Jetty).
_VERSION: Final = re.compile(r"([1-9][0-9]{0,9})((--?|;)(gzip|br|zstd|deflate))?")


class Condition(NamedTuple):
    """The entity tags of a condition.

    Attributes:
        versions: the versions that the tags stand for; ``None`` means every version (``*``).
    """

    versions: list[int] | None

    def matches(self, version: int) -> bool:
        """Whether a tag of the condition stands for this version."""
        return self.versions is None or version in self.versions


def etag(version: int) -> bytes:
    """The entity tag of a row at a version: ``"1"``."""
    return b'"%d"' % version


def if_match(request: Request) -> Condition:
    """The versions at which a write may happen; without the header, every version.

    Raises:
        InvalidInput: the header is malformed.
    """
    return _condition(request, "If-Match") or Condition(None)


def if_none_match(request: Request) -> Condition | None:
    """The versions that the client has already; ``None`` without the header.

    Raises:
        InvalidInput: the header is malformed.
    """
    return _condition(request, "If-None-Match")


IfMatch = Annotated[Condition, Depends(if_match)]
IfNoneMatch = Annotated[Condition | None, Depends(if_none_match)]


def _condition(request: Request, header: str) -> Condition | None:
    values = header_values(request.scope, header.lower().encode())
    if not values:
        return None
    text = b", ".join(values).decode("latin-1").strip()
    if text == "*":
        return Condition(None)
    if not _LIST.fullmatch(text):
        message = 'Should be "*" or a list of entity tags, each in double quotes'
        raise InvalidInput([FieldError(header, message, "etag_invalid", printable(text))])
    # A weak tag counts like a strong one, because proxies that compress make our tags weak. A
    # well-formed tag that is not a version matches nothing.
    matches = filter(None, map(_VERSION.fullmatch, _TAG.findall(text)))
    versions = (int(match[1]) for match in matches)
    return Condition([version for version in versions if version <= _MAX_VERSION])


def header_parameter(header: str, description: str) -> dict[str, Any]:
    """One of these headers as a parameter in OpenAPI, for a route's ``openapi_extra``.

    Args:
        header: ``If-Match`` or ``If-None-Match``.
        description: what the header does in this operation.
    """
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
