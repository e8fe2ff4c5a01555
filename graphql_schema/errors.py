"""An error as GraphQL tells it: the catalogue's members in ``extensions``, with a ``code``."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from graphql import GraphQLError
from starlette.types import Scope

from api.errors import CATALOGUE, Problem, describe, report
from api.wire import now_to_the_second
from graphql_schema.compiled import Refused, Stage
from persistence.errors import Invalid


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
    scope["problems"].append(code.lower())
    members = problem.members(
        instance=scope["path"], timestamp=now_to_the_second(), request_id=scope["request_id"]
    )
    return {"message": problem.detail, "extensions": {"code": code, **members}}


def not_persisted(scope: Scope) -> dict[str, Any]:
    """The answer to a document's hash, in the words that clients wait for to send the document."""
    problem = Problem(CATALOGUE[Invalid], "PersistedQueryNotSupported")
    return request_error(scope, problem, Code.PERSISTED_QUERY_NOT_SUPPORTED)


def refusal(scope: Scope, refused: Refused, *, echo: bool) -> list[dict[str, Any]]:
    """Why a document was not run, error by error.

    Args:
        echo: whether a message may repeat what it found.
    """
    code = Code.PARSE_FAILED if refused.stage is Stage.PARSE else Code.VALIDATION_FAILED
    return [
        _placed(error)
        | request_error(scope, Problem(CATALOGUE[Invalid], _message(error, echo)), code)
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


# graphql-core repeats the offending value: 'Int cannot represent non-integer value: "x"',
# 'Expected value of type "Int!", found "x".'
_ECHO: Final = re.compile(r"(?:, found |: |; ?Found )(?=[\"{\[\d'-]|null|true|false).*", re.DOTALL)


def _message(error: GraphQLError, echo: bool) -> str:
    return error.message if echo else _ECHO.sub(".", error.message)[:300]
