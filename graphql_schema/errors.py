"""An error as GraphQL tells it: the catalogue's members in ``extensions``, with a ``code``."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from graphql import GraphQLError
from starlette.types import Scope

from api.errors import CATALOGUE, Problem, describe
from api.http.json import now_to_the_second
from api.request import context_of, report
from graphql_schema.compiled import Refused, Stage
from persistence.errors import InvalidInput


class Code(StrEnum):
    """GraphQL's own codes, beside the catalogue's types in upper case."""

    PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"


def request_error(scope: Scope, problem: Problem, code: str | None = None) -> dict[str, Any]:
    """An error that is the whole answer's, not one field's.

    Args:
        code: in place of the catalogue's.
    """
    code = code or problem.code
    context = context_of(scope)
    context.error_types.append(code.lower())
    members = problem.members(
        instance=scope["path"], timestamp=now_to_the_second(), request_id=context.request_id
    )
    return {"message": problem.detail, "extensions": {"code": code, **members}}


def not_persisted(scope: Scope) -> dict[str, Any]:
    """The answer to a document's hash, in the words that clients wait for to send the document."""
    problem = Problem(CATALOGUE[InvalidInput], "PersistedQueryNotSupported")
    return request_error(scope, problem, Code.PERSISTED_QUERY_NOT_SUPPORTED)


def refusal(scope: Scope, refused: Refused) -> list[dict[str, Any]]:
    """Why a document was not run, error by error."""
    code = Code.PARSE_FAILED if refused.stage is Stage.PARSE else Code.VALIDATION_FAILED
    return [
        _placed(error)
        | request_error(scope, Problem(CATALOGUE[InvalidInput], _reworded(error.message)), code)
        for error in refused.errors
    ]


def field_error(scope: Scope, error: GraphQLError) -> dict[str, Any]:
    """Why a field has no value. What is not in the catalogue is logged, once, and masked."""
    cause = error.original_error if isinstance(error.original_error, Exception) else error
    problem = describe(cause)
    report(scope, cause, problem)
    return _placed(error) | request_error(scope, problem)


def _placed(error: GraphQLError) -> dict[str, Any]:
    """Where in the document, and where in the answer."""
    # What is read first comes first; whoever places the error words it.
    placed: dict[str, Any] = {"message": ""}
    if error.locations:
        placed["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        placed["path"] = error.path
    return placed


# graphql-core's messages repeat the offending value, as Python writes it, and quote Python's own
# errors. The error has the value's place already, and the value may be a secret that must not get
# into a log. Each pattern removes everything after graphql-core's fixed wording. Look-ahead is
# bounded, for a value may consist of these words repeated a thousand times.
_REWORDINGS: Final = tuple(
    (re.compile(pattern, re.DOTALL), words)
    for pattern, words in (
        # A token (`found Int '1'`), and what is none.
        (r"^(Syntax Error: .*?\b(?:BlockString|String|Int|Float)) '.*", r"\1."),
        (r"^(Syntax Error: .*? escape sequence): .*", r"\1."),
        (r"^(Syntax Error: .*?), did you mean '0\..*", r"\1."),
        # A value of the wrong type. The name of a member that is too much can be anything.
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
"""A name may be as long as the document."""
MAX_MESSAGE: Final = 1_000
"""Characters of a message, its names shortened, that are looked at. What graphql-core itself says
is shorter."""


def _reworded(message: str) -> str:
    message = _LONG_NAME.sub(r"\1…", message)
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}…"
    for pattern, words in _REWORDINGS:
        message = pattern.sub(words, message)
    return message
