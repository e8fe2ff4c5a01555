"""A GraphQL request: its members, as JSON in a body or in a message has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from persistence.errors import FieldError, InvalidInput


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The members of a request."""

    query: str
    operation_name: str | None
    variables: Mapping[str, Any] | None


class PersistedQuery(Exception):
    """The client sent a document's hash instead of the document."""


class Batch(Exception):
    """The body is an array of requests.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__("One request has one operation: send the operations of a batch one by one")


def request_of(members: Any) -> GraphQLRequest:
    """The request with these members.

    Raises:
        Batch, InvalidInput, PersistedQuery: they are not those of one request with a document.
    """
    if isinstance(members, list) and members:
        raise Batch(len(members))
    if not isinstance(members, dict):
        raise InvalidInput([FieldError("", "Body should be a JSON object", "dict_type")])
    if _is_hash_alone(members):
        raise PersistedQuery
    problems = [] if "query" in members else [FieldError("query", "Field required", "missing")]
    problems += [
        FieldError(name, f"Should be {words}", code)
        for name, kinds, words, code in _KINDS
        if name in members and not isinstance(members[name], kinds)
    ]
    if problems:
        raise InvalidInput(problems)
    # No operation has an empty name. Some clients always send the member.
    name = members.get("operationName") or None
    return GraphQLRequest(members["query"], name, members.get("variables"))


def _is_hash_alone(members: dict[str, Any]) -> bool:
    extensions = members.get("extensions")
    has_hash = isinstance(extensions, dict) and "persistedQuery" in extensions
    return has_hash and members.get("query") is None


_NONE: Final = type(None)
_KINDS: Final = (
    ("query", str, "a string", "string_type"),
    ("operationName", (str, _NONE), "a string", "string_type"),
    ("variables", (dict, _NONE), "an object", "dict_type"),
    ("extensions", (dict, _NONE), "an object", "dict_type"),
)

MEMBERS: Final = tuple(name for name, *_ in _KINDS)
"""The names of the members."""
