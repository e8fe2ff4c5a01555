"""Our ``APIRoute``: it handles a request in the contract's order. Contains nothing about tasks.

FastAPI declares, documents and dispatches the routes. Calling the endpoint is ours, because
FastAPI reads and parses the body before it calls dependencies: a request without a valid session
must be answered with 401, and charged, even if its body is broken.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, get_args
from urllib.parse import parse_qsl

from fastapi import Depends, params
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.admission import answer_reader, authenticate, charge, require_funds
from api.charges import ONE_READ, ONE_WRITE, Cost, Kind
from api.http.body import read_json
from api.http.links import relative_reference
from api.rate_limit.budget import Budget, viewer_payer
from api.request import context_of
from api.state import state_of
from persistence.database import Database
from persistence.errors import FieldError
from persistence.validation import MAX_ERRORS, Checks, printable, validate
from persistence.viewer import Viewer

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


def media_types(method: str) -> tuple[str, ...]:
    """The media types of a request body: PUT and PATCH also take a merge patch (RFC 7396).

    Args:
        method: in upper case.
    """
    return (JSON, MERGE_PATCH) if method in ("PUT", "PATCH") else (JSON,)


def reader(request: Request) -> Viewer:
    """The viewer of a request that costs one read."""
    return context_of(request.scope).viewer


def writer(request: Request) -> Viewer:
    """The viewer of a request that costs one write."""
    return reader(request)


def database(request: Request) -> Database:
    """The request's access to the database."""
    return context_of(request.scope).database


def relative(request: Request) -> Callable[[str], str]:
    """Makes a reference from the request's URL to a path of the app."""
    return partial(relative_reference, request.scope)


_COSTS: Final[dict[Callable[..., Any], Cost]] = {reader: ONE_READ, writer: ONE_WRITE}

Reader = Annotated[Viewer, Depends(reader)]
Writer = Annotated[Viewer, Depends(writer)]
Db = Annotated[Database, Depends(database)]
Relative = Annotated[Callable[[str], str], Depends(relative)]


class PathParser(NamedTuple):
    """The function that reads a path parameter; it stands beside ``Path`` in the annotation.

    Attributes:
        parse: takes the parameter's text and its name; raises ``InvalidInput`` for text that is
            malformed, ``NotFound`` for a value that no row can have.
    """

    parse: Callable[[str, str], Any]


class BodyCost(NamedTuple):
    """What the cost depends on; it stands beside ``Body`` in the annotation.

    Attributes:
        of: takes the body as JSON, before it is validated.
    """

    of: Callable[[Any], Cost]


class AuthenticatedRoute(APIRoute):
    """A route that handles a request in this order.

    1. authentication (401), 2. the budget (429), 3. the body (408, 413, 415, 400), 4. every other
    input (400), 5. the endpoint, which decides existence and preconditions (404, 412).

    The endpoint's annotations say what it takes: one of ``Reader`` and ``Writer``, and any of
    ``Db``, a ``Depends`` on a plain function of the request, a ``Body``, a ``Query`` model, and
    ``Path`` parameters with a ``PathParser``.

    Where the cost depends on the body (``BodyCost``), it is charged as soon as the body is read,
    whole or not at all. A body that cannot be read costs one. A budget that is known to be spent is
    refused before.

    Raises:
        TypeError: when it is declared: an annotation is none of these, or the viewer is missing.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._call: Callable[..., Awaitable[Response]] = endpoint
        self._inputs = _inputs(endpoint)
        assert self.methods is not None
        [method] = self.methods
        self._media_types = media_types(method)
        # Replaces FastAPI's own handler.
        self.app = self._handle

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = state_of(scope)
        request = Request(scope, receive)
        db = state.database(context_of(scope).usage)
        admission = scope, state.authenticator, state.budget, db, self._inputs.cost
        if self._inputs.cost.kind is Kind.READ:
            response = await answer_reader(*admission, partial(self._respond, request))
        else:
            payer = viewer_payer(await authenticate(*admission))
            if self._inputs.cost_of is None:
                await charge(scope, state.budget, payer, self._inputs.cost)
                response = await self._respond(request)
            else:
                response = await self._respond_at_cost(request, state.budget, payer)
        await response(scope, receive, send)

    async def _respond_at_cost(self, request: Request, budget: Budget, payer: str) -> Response:
        """The response to a request whose cost depends on its body."""
        scope, inputs = request.scope, self._inputs
        assert inputs.cost_of
        require_funds(scope, budget, payer, inputs.cost.kind)
        try:
            body = await read_json(scope, request.receive, self._media_types)
            cost = inputs.cost_of(body)
            budget.require_payable(cost)
        except Exception:
            # The budget comes before the body: who cannot pay is told that.
            await charge(scope, budget, payer, inputs.cost)
            raise
        await charge(scope, budget, payer, cost)
        return await self._work(request, body)

    async def _respond(self, request: Request) -> Response:
        """The response to a request that is admitted: read its inputs, then work."""
        body = None
        if self._inputs.body:
            body = await read_json(request.scope, request.receive, self._media_types)
        return await self._work(request, body)

    async def _work(self, request: Request, body: object) -> Response:
        """The response to a request whose body is read: check its inputs, then work."""
        inputs, scope = self._inputs, request.scope
        arguments: dict[str, Any] = {}
        checks = Checks()
        if inputs.body:
            arguments[inputs.body.name] = checks.run(validate, inputs.body.model, body)
        members, errors = _query_members(scope, inputs.query)
        checks.add(errors)
        if inputs.query:
            arguments[inputs.query.name] = checks.run(validate, inputs.query.model, members)
        for name, dependency in inputs.dependencies:
            arguments[name] = checks.run(dependency, request)
        for name, alias, parser in inputs.path:
            arguments[name] = checks.run(parser.parse, request.path_params[alias], alias)
        checks.finish()
        return await self._call(**arguments)


class PublicRoute(APIRoute):
    """A route that anybody may call, and that costs nothing.

    Args:
        endpoint: takes the request, or nothing.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._call: Callable[..., Awaitable[Response]] = endpoint
        self._takes_request = bool(inspect.signature(endpoint).parameters)
        self.app = self._handle

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        arguments = [Request(scope, receive)] if self._takes_request else []
        response = await self._call(*arguments)
        await response(scope, receive, send)


class _Argument(NamedTuple):
    name: str
    model: type[BaseModel]


class _Inputs(NamedTuple):
    """What the arguments of an endpoint are made from."""

    cost: Cost
    cost_of: Callable[[Any], Cost] | None
    body: _Argument | None
    query: _Argument | None
    path: list[tuple[str, str, PathParser]]
    dependencies: list[tuple[str, Callable[[Request], Any]]]


def _inputs(endpoint: Callable[..., Any]) -> _Inputs:
    cost, cost_of, body, query = None, None, None, None
    path: list[tuple[str, str, PathParser]] = []
    dependencies: list[tuple[str, Callable[[Request], Any]]] = []
    for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items():
        match get_args(parameter.annotation):
            case (_, params.Depends(dependency=dependency)) if dependency is not None:
                dependencies.append((name, dependency))
                cost = _COSTS.get(dependency, cost)
            case (_, params.Path(alias=alias), PathParser() as parser):
                path.append((name, alias or name, parser))
            case (model, params.Query()):
                query = _Argument(name, model)
            case (model, params.Body(), *rest):
                body = _Argument(name, model)
                [cost_of] = [each.of for each in rest] or [None]
            case _:
                raise TypeError(f"{endpoint.__name__}: the annotation of {name} is not supported")
    if cost is None:
        raise TypeError(f"{endpoint.__name__}: it takes neither a Reader nor a Writer")
    return _Inputs(cost, cost_of, body, query, path, dependencies)


def _query_members(
    scope: Scope, query: _Argument | None
) -> tuple[dict[str, str], list[FieldError]]:
    """The query parameters by name, and an error for each that is unknown, repeated or empty."""
    if not scope["query_string"]:
        return {}, []
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    names = query.model.model_fields.keys() if query else ()
    members, errors = dict(pairs), []
    repeated = set() if len(members) == len(pairs) else _repeated(pairs)
    for name, value in list(members.items()):
        if error := _query_error(name, value, name in names, name in repeated):
            errors.append(error)
            del members[name]
    return members, errors[:MAX_ERRORS]


def _repeated(pairs: list[tuple[str, str]]) -> set[str]:
    return {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def _query_error(name: str, value: str, is_parameter: bool, is_repeated: bool) -> FieldError | None:
    if not is_parameter:
        message = "Extra inputs are not permitted"
        return FieldError(printable(name), message, "extra_forbidden", printable(value, name))
    if is_repeated:
        return FieldError(name, "Should be given once", "repeated_parameter", printable(value))
    if not value:
        return FieldError(name, "Should not be empty", "empty_parameter", value)
    return None
