"""Conditional requests: ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110, 13)."""

from __future__ import annotations

import re
import zlib
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from api.headers import header_values
from persistence.errors import FieldError, InvalidInput
from persistence.reported_values import reported_value
from persistence.sync_tokens import SyncToken, decode_token, encode_token
from persistence.task_fields import Task

_MAX_VERSION: Final = 2**31 - 1

# RFC 9110, 8.8.3: entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE. A list may have empty elements.
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,(?:[ \t]*{_TAG.pattern})?)*[ \t]*")
# Proxies that compress mark a tag: "1-gzip" (Apache), "1;gzip", "1--gzip" (Jetty).
_SUFFIX: Final = r"((--?|;)(gzip|br|zstd|deflate))?"
_VERSION: Final = re.compile(rf"([1-9][0-9]{{0,9}}){_SUFFIX}")


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


class ListCondition(NamedTuple):
    """The entity tags of a list that the client has.

    Attributes:
        token: the sync token of the latest; ``None`` if there is none of a list in today's form.
        matches_all: whether every list will do (``*``).
    """

    token: SyncToken | None
    matches_all: bool


def list_etag(token: SyncToken) -> str:
    """The weak entity tag of a page of the list, which changes when any task of the owner does.

    It changes with the fields of a task as well, because a release may add some.
    """
    return f'W/"{encode_token(token)}.{_FORM}"'


def if_list_changed(request: Request) -> ListCondition:
    """The lists that the client has already.

    Raises:
        InvalidInput: the header is malformed.
    """
    tags = _tags(request, "If-None-Match")
    if not tags:
        return ListCondition(None, tags is None)
    tokens = [token for tag in tags if (token := _list_token(tag))]
    return ListCondition(max(tokens, key=lambda token: token.seq, default=None), False)


def _list_token(tag: str) -> SyncToken | None:
    match = _LIST_TAG.fullmatch(tag)
    try:
        return decode_token(match[1]) if match else None
    except PydanticCustomError:
        return None


_FORM: Final = f"{zlib.crc32(' '.join(Task.__struct_fields__).encode()):08x}"
_LIST_TAG: Final = re.compile(rf"([A-Za-z0-9_-]{{43}})[.]{_FORM}{_SUFFIX}")

IfListChanged = Annotated[ListCondition, Depends(if_list_changed)]
IfMatch = Annotated[Condition, Depends(if_match)]
IfNoneMatch = Annotated[Condition | None, Depends(if_none_match)]


def _condition(request: Request, header: str) -> Condition | None:
    tags = _tags(request, header)
    if tags is None:
        return Condition(None)
    if not tags:
        return None
    # A weak tag counts like a strong one, because proxies that compress make our tags weak. A
    # well-formed tag that is not a version matches nothing.
    matches = filter(None, map(_VERSION.fullmatch, tags))
    versions = (int(match[1]) for match in matches)
    return Condition([version for version in versions if version <= _MAX_VERSION])


def _tags(request: Request, header: str) -> list[str] | None:
    """The entity tags in a header; none without the header, ``None`` for ``*``.

    Raises:
        InvalidInput: the header is malformed.
    """
    values = header_values(request.scope, header.lower().encode())
    if not values:
        return []
    text = b", ".join(values).decode("latin-1").strip()
    if text == "*":
        return None
    if not _LIST.fullmatch(text):
        message = 'Should be "*" or a list of entity tags, each in double quotes'
        raise InvalidInput([FieldError(header, message, "etag_invalid", reported_value(text))])
    tags: list[str] = _TAG.findall(text)
    return tags


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
