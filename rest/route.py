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

from api.admission import Admission
from api.charges import ONE_READ, ONE_WRITE, Cost, Kind
from api.http.body import read_json
from api.http.links import relative_reference
from api.rate_limit.budget import viewer_payer
from api.request import context_of
from api.state import state_of
from persistence.database import Database
from persistence.errors import FieldError
from persistence.reported_values import reported_value
from persistence.validation import MAX_ERRORS, ErrorCollector
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


_UNREAD: Final = object()


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
        admission, cost = Admission.of(scope, db), self._inputs.cost
        if cost.kind is Kind.READ:
            response = await admission.serve_reader(cost, partial(self._respond, request))
        else:
            payer = viewer_payer(await admission.authenticate(cost))
            if self._inputs.cost_of is None:
                await admission.charge(payer, cost)
                response = await self._respond(request)
            else:
                response = await self._respond_at_cost(request, admission, payer)
        await response(scope, receive, send)

    async def _respond_at_cost(
        self, request: Request, admission: Admission, payer: str
    ) -> Response:
        """The response to a request whose cost depends on its body."""
        inputs = self._inputs
        assert inputs.cost_of
        admission.require_funds(payer, inputs.cost.kind)
        try:
            body = await read_json(request.scope, request.receive, self._media_types)
            cost = inputs.cost_of(body)
            admission.budget.require_payable(cost)
        except Exception:
            # The budget comes before the body: who cannot pay is told that.
            await admission.charge(payer, inputs.cost)
            raise
        await admission.charge(payer, cost)
        return await self._respond(request, body)

    async def _respond(self, request: Request, body: object = _UNREAD) -> Response:
        """The response to a request that is admitted: read and check its inputs, then work."""
        inputs, scope = self._inputs, request.scope
        if inputs.body and body is _UNREAD:
            body = await read_json(scope, request.receive, self._media_types)
        arguments: dict[str, Any] = {}
        collector = ErrorCollector()
        if inputs.body:
            arguments[inputs.body.name] = collector.validate(inputs.body.model, body)
        members, errors = _query_members(scope, inputs.query)
        collector.add(errors)
        if inputs.query:
            arguments[inputs.query.name] = collector.validate(inputs.query.model, members)
        for name, dependency in inputs.dependencies:
            arguments[name] = collector.run(dependency, request)
        for name, alias, parser in inputs.path:
            arguments[name] = collector.run(parser.parse, request.path_params[alias], alias)
        collector.raise_errors()
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
        return FieldError(
            reported_value(name), message, "extra_forbidden", reported_value(value, name)
        )
    if is_repeated:
        rejected = reported_value(value)
        return FieldError(name, "Should occur only once", "repeated_parameter", rejected)
    if not value:
        return FieldError(name, "Should not be empty", "empty_parameter", value)
    return None
