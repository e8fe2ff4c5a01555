"""Errors in GraphQL's form: the catalogue's members in ``extensions``, with a ``code``."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from graphql import GraphQLError
from starlette.types import Scope

from api.errors import CATALOGUE, Problem, describe
from api.http.json import now_to_the_second
from api.request import context_of, report
from graphql_schema.compiled import RequestRejected, Stage
from persistence.errors import InvalidInput


class Code(StrEnum):
    """GraphQL's own codes. The others are the catalogue's types in upper case."""

    PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"


def request_error(scope: Scope, problem: Problem, code: str | None = None) -> dict[str, Any]:
    """An error of the whole request.

    Args:
        code: replaces the catalogue's code.
    """
    code = code or problem.code
    context = context_of(scope)
    context.error_types.append(code.lower())
    members = problem.members(
        instance=scope["path"], timestamp=now_to_the_second(), request_id=context.request_id
    )
    return error_document(problem, code, members)


def error_document(problem: Problem, code: str, members: dict[str, Any]) -> dict[str, Any]:
    """A problem with its ``members`` as one of ``errors``, without a place."""
    return {"message": _message(problem), "extensions": {"code": code, **members}}


def _message(problem: Problem) -> str:
    """What clients show to a person: the detail, or the first errors of the fields."""
    lines = [
        f"{error.field}: {error.message}" if error.field else error.message
        for error in problem.errors[:_MAX_SHOWN]
    ]
    return "; ".join(lines) or problem.detail


_MAX_SHOWN: Final = 3


def not_persisted(scope: Scope) -> dict[str, Any]:
    """The error for a document's hash. Clients recognise this text, and send the document."""
    problem = Problem(CATALOGUE[InvalidInput], "PersistedQueryNotSupported")
    return request_error(scope, problem, Code.PERSISTED_QUERY_NOT_SUPPORTED)


def rejection_errors(scope: Scope, rejection: RequestRejected) -> list[dict[str, Any]]:
    """The errors for which a document was rejected."""
    code = Code.PARSE_FAILED if rejection.stage is Stage.PARSE else Code.VALIDATION_FAILED
    return [
        _place(error)
        | request_error(scope, Problem(CATALOGUE[InvalidInput], _reword(error.message)), code)
        for error in rejection.errors
    ]


def field_error(scope: Scope, error: GraphQLError) -> dict[str, Any]:
    """The error of one field. An error that is not in the catalogue is logged once, and masked."""
    cause = error.original_error if isinstance(error.original_error, Exception) else error
    problem = describe(cause)
    report(scope, cause, problem)
    return _place(error) | request_error(scope, problem)


def _place(error: GraphQLError) -> dict[str, Any]:
    """The error's place in the document and in the response, with an empty message."""
    # The first member, because readers look for it first. The caller sets it.
    place: dict[str, Any] = {"message": ""}
    if error.locations:
        place["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        place["path"] = error.path
    return place


# graphql-core's messages repeat the rejected value in Python's notation, and quote Python's errors.
# The value may be a secret that must not get into a log, and the error has its place already.
# Each pattern removes everything after graphql-core's fixed wording. Look-ahead is bounded,
# because a value may repeat this wording a thousand times.
_REWORDINGS: Final = tuple(
    (re.compile(pattern, re.DOTALL), words)
    for pattern, words in (
        # A token (`found Int '1'`), and characters that are no token.
        (r"^(Syntax Error: .*?\b(?:BlockString|String|Int|Float)) '.*", r"\1."),
        (r"^(Syntax Error: .*? escape sequence): .*", r"\1."),
        (r"^(Syntax Error: .*?), did you mean '0\..*", r"\1."),
        # A value of the wrong type. An unknown member can have any name.
        (r" unknown field '(?!\w+…?'(?:, found|\. Did you mean)).*", " unknown fields."),
        (r", (?:but encountered error '|found: ).*", "."),
        (r"( cannot represent [^:]{1,60}): .*", r"\1."),
        (r"\b(Did you mean [^?]{1,200}\?) Found: .*", r"\1"),
        (r"\b(ID cannot represent) value\.$", r"\1 a non-string and non-integer value."),
        (r"\bValue '.*' does not exist", "The value does not exist"),
        (r" not to be None\.$", " not to be null."),
        (r"^Unknown operation named .*", "The document has no operation of the given name."),
    )
)


_LONG_NAME: Final = re.compile(r"\b(\w{60})\w+")
"""Names are cut after 60 characters: a name can be as long as the document."""
MAX_MESSAGE: Final = 1_000
"""Characters of a message that are kept, after its names are cut. graphql-core's own wording is
shorter."""


def _reword(message: str) -> str:
    message = _LONG_NAME.sub(r"\1…", message)
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}…"
    for pattern, words in _REWORDINGS:
        message = pattern.sub(words, message)
    return message
