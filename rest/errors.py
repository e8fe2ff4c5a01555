"""Errors in REST: RFC 9457, ``application/problem+json``."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

from api.auth.bearer_token import without_token
from api.errors import describe
from api.headers import header_values
from api.http.json import encode_json, now_to_the_second
from api.request import context_of, report

PROBLEM_JSON: Final = "application/problem+json"


def error_response(scope: Scope, error: Exception) -> Response:
    """The response to a request that raised an exception, expected or not.

    Also logs the error if an operator must know of it, and records its type for the access log.
    """
    problem = describe(error)
    headers = {**problem.headers, "Vary": "Accept", "Cache-Control": "no-store"}
    body = problem_document(scope, error)
    return Response(body, problem.type.status, headers, _media_type(scope))


def problem_document(scope: Scope, error: Exception) -> bytes:
    """The document of an error. Logs it and records its type, as ``error_response`` does."""
    problem = describe(error)
    report(scope, error, problem)
    context = context_of(scope)
    context.error_types.append(problem.type.name)
    members = problem.members(
        instance=scope["path"],
        timestamp=now_to_the_second(),
        request_id=context.request_id,
    )
    return without_token(scope, encode_json(members))


def _media_type(scope: Scope) -> str:
    """``application/json`` for a client that accepts it by name and not problem+json."""
    accept = b",".join(header_values(scope, b"accept")).decode("latin-1").lower()
    ranges = [part for part in accept.split(",") if not _ZERO_WEIGHT.search(part)]
    names = {part.partition(";")[0].strip() for part in ranges}
    is_plain = "application/json" in names and PROBLEM_JSON not in names
    return "application/json" if is_plain else PROBLEM_JSON


_ZERO_WEIGHT: Final = re.compile(r";[ \t]*q=0(\.0*)?[ \t]*(;|$)")
"""Marks a media type as not acceptable (RFC 9110, 12.4.2)."""
