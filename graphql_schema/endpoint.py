"""GraphQL over HTTP: one request, one document, one answer.

The order is REST's: who is asking, the body, the document, its cost, and only then anything runs.
Before the document is parsed, a scan tells a query from a mutation: a mutation by GET, and a
payer who has nothing left of that kind, are refused for the price of the scan.
https://graphql.github.io/graphql-over-http/draft/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from graphql import OperationType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.admission import authenticate, charge, require_funds
from api.errors import BudgetExceeded, MethodNotAllowed, NotAcceptable, describe
from api.http.body import read_json
from api.http.json import encode_json
from api.http.negotiation import best_media_type
from api.rate_limit.budget import (
    ONE_READ,
    ONE_WRITE,
    Budget,
    Cost,
    Kind,
    viewer_payer,
)
from api.request import context_of, report
from api.state import state_of
from graphql_schema.compiled import CompiledSchema, Refused
from graphql_schema.context import Context
from graphql_schema.errors import field_error, not_persisted, refusal, request_error
from persistence.errors import FieldError, InvalidInput

GRAPHQL_JSON: Final = "application/graphql-response+json"
JSON: Final = "application/json"


class Door:
    """The ASGI endpoint at ``/graphql``.

    Args:
        engine: runs the documents.
        max_page: the most tasks in one page.
    """

    def __init__(self, engine: CompiledSchema, *, max_page: int) -> None:
        self._engine = engine
        self._max_page = max_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = await self._answer(scope, receive)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        media_type = _media_type(scope)
        if media_type is None:
            raise NotAcceptable(f"An answer is {GRAPHQL_JSON} or {JSON}")
        state = state_of(scope)
        db = state.database()
        viewer = await authenticate(scope, state.authenticator, state.budget, db, ONE_READ)
        payer = viewer_payer(viewer)
        kind = Kind.READ
        try:
            asked = await _asked(scope, receive)
            kind = self._kind(asked)
            _require_method(scope, kind)
            require_funds(scope, state.budget, payer, kind)
            operation = self._engine.prepare(asked.query).operation(asked.operation_name)
            call = operation.bind(asked.variables)
            cost = _cost(operation.kind, call.cost)
            state.budget.require_payable(cost)
        except (MethodNotAllowed, BudgetExceeded):
            raise
        except Exception as error:
            await charge(scope, state.budget, payer, _cost_of_failure(state.budget, payer, kind))
            return self._refused(scope, media_type, error)
        await charge(scope, state.budget, payer, cost)
        answer = await call.execute(Context(viewer, db, state.budget, self._max_page))
        errors = [field_error(scope, error) for error in answer.errors]
        return _response(scope, media_type, 200, answer.data, errors)

    def _kind(self, asked: Asked) -> Kind:
        """What the operation spends, found without parsing; a read where that is not clear."""
        operation = self._engine.find_kind(asked.query, asked.operation_name)
        return Kind.WRITE if operation is OperationType.MUTATION else Kind.READ

    def _refused(self, scope: Scope, media_type: str, error: Exception) -> Response:
        if isinstance(error, Refused):
            errors = refusal(scope, error)
        elif isinstance(error, PersistedQuery):
            errors = [not_persisted(scope)]
        else:
            raise error
        # To a client of the older media type, 200 means no more than that the server was reached.
        return _response(scope, media_type, 200 if media_type == JSON else 400, None, errors)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks to be run."""

    query: str
    operation_name: str | None
    variables: Mapping[str, Any] | None


class PersistedQuery(Exception):
    """A document's hash came instead of the document."""


class MutationByGet(MethodNotAllowed):
    """The path has the method, but it must not write."""

    def __init__(self) -> None:
        super().__init__(["POST"])

    def __str__(self) -> str:
        return "A mutation has to be sent by POST"


async def _asked(scope: Scope, receive: Receive) -> Asked:
    if scope["method"] == "POST":
        members = await read_json(scope, receive, (JSON,))
    else:
        members = _members_of_query(scope)
    if not isinstance(members, dict):
        raise InvalidInput([FieldError("", "Body should be a JSON object", "dict_type")])
    if _is_hash_alone(members):
        raise PersistedQuery
    problems = [] if "query" in members else [FieldError("query", "Field required", "missing")]
    problems += [
        FieldError(name, f"Should be {words}", code)
        for name, kinds, words, code in _MEMBERS
        if name in members and not isinstance(members[name], kinds)
    ]
    if problems:
        raise InvalidInput(problems)
    # No operation has an empty name: a client that always sends the member means none.
    name = members.get("operationName") or None
    return Asked(members["query"], name, members.get("variables"))


def _is_hash_alone(members: dict[str, Any]) -> bool:
    extensions = members.get("extensions")
    hashed = isinstance(extensions, dict) and "persistedQuery" in extensions
    return hashed and members.get("query") is None


_NONE: Final = type(None)
_MEMBERS: Final = (
    ("query", str, "a string", "string_type"),
    ("operationName", (str, _NONE), "a string", "string_type"),
    ("variables", (dict, _NONE), "an object", "dict_type"),
    ("extensions", (dict, _NONE), "an object", "dict_type"),
)


def _members_of_query(scope: Scope) -> dict[str, Any]:
    given = Request(scope).query_params
    repeated = [name for name, *_ in _MEMBERS if len(given.getlist(name)) > 1]
    if repeated:
        raise InvalidInput(
            [FieldError(name, "Should be given once", "repeated_parameter") for name in repeated]
        )
    members: dict[str, Any] = dict(given)
    for name in ("variables", "extensions"):
        if name in members:
            try:
                members[name] = msgspec.json.decode(members[name])
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                raise InvalidInput(
                    [FieldError(name, "Is not valid JSON", "json_invalid")]
                ) from None
    return members


def _require_method(scope: Scope, kind: Kind) -> None:
    if kind is Kind.WRITE and scope["method"] != "POST":
        raise MutationByGet


def _cost_of_failure(budget: Budget, payer: str, kind: Kind) -> Cost:
    """What a request costs that fails before it has a cost: one read, whatever it failed at.

    A mutation costs a write when the reads are spent: otherwise its preparation would be free.
    """
    if kind is Kind.WRITE:
        try:
            budget.require_funds(payer, Kind.READ)
        except BudgetExceeded:
            return ONE_WRITE
    return ONE_READ


def _cost(kind: OperationType, fields: int) -> Cost:
    """The root fields that will run, at least one."""
    mutates = kind is OperationType.MUTATION
    return Cost(Kind.WRITE if mutates else Kind.READ, max(fields, 1))


def answer(scope: Scope, error: Exception) -> Response:
    """The response to a request that ended in an exception, whichever it was."""
    problem = describe(error)
    report(scope, error, problem)
    response = _response(
        scope,
        _media_type(scope) or JSON,
        problem.type.status,
        None,
        [request_error(scope, problem)],
    )
    response.headers.update(problem.headers)
    return response


def _media_type(scope: Scope) -> str | None:
    return best_media_type(scope, (JSON, GRAPHQL_JSON))


def _response(
    scope: Scope, media_type: str, status: int, data: bytes | None, errors: list[dict[str, Any]]
) -> Response:
    members = []
    if errors:
        # First, as the specification likes them: they are what a reader looks for (7.1.8).
        members.append(b'"errors":' + encode_json(errors))
    if data is not None:
        members.append(b'"data":' + data)
    members.append(b'"extensions":' + encode_json(_extensions(scope)))
    return Response(
        b"{" + b",".join(members) + b"}",
        status,
        {"content-type": f"{media_type}; charset=utf-8", "vary": "Accept"},
    )


def _extensions(scope: Scope) -> dict[str, Any]:
    context = context_of(scope)
    found: dict[str, Any] = {"request_id": context.request_id}
    for charged in context.charges:
        found["cost"] = {
            "kind": charged.cost.kind,
            "requested": charged.cost.amount,
            "remaining": charged.window.remaining,
            "reset": charged.reset,
        }
    return found
