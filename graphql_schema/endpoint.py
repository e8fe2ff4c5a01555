"""GraphQL over HTTP: one request, one document, one response.

The order of the steps is REST's: authentication, the body, the document, its cost, execution.
(Of a token that was valid before, the session is confirmed later, before anything is answered.)
Before the document is parsed, a scan tells a query from a mutation. A mutation by GET, and a
payer whose budget of that kind is spent, are rejected at the cost of the scan alone.
https://graphql.github.io/graphql-over-http/draft/
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from graphql import GraphQLError, OperationType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.admission import Admission
from api.auth.bearer_token import bearer_token, without_token
from api.charges import ONE_READ, ONE_WRITE, Cost, Kind
from api.errors import (
    BudgetExceeded,
    MethodNotAllowed,
    NotAcceptable,
    Unauthenticated,
    describe,
)
from api.headers import header_values
from api.http.body import decode_json, read_json
from api.http.bytes_response import BytesResponse
from api.http.event_stream import EventStream
from api.http.json import encode_json
from api.http.negotiation import best_media_type
from api.rate_limit.budget import Budget, viewer_payer
from api.request import context_of, report
from api.state import state_of
from graphql_schema.compiled import Call, CompiledSchema, Operation, RequestRejected
from graphql_schema.context import KEY_ARGUMENT, Context
from graphql_schema.errors import field_error, not_persisted, rejection_errors, request_error
from graphql_schema.requests import MEMBERS, Batch, GraphQLRequest, PersistedQuery, request_of
from graphql_schema.subscriptions import accepts_events, open_stream, rejection_stream
from persistence.database import Database
from persistence.errors import ExpectedError, FieldError, InvalidInput, Unavailable
from persistence.idempotency import HEADER, parse_key
from persistence.sessions.checks import MAX_ROWS
from persistence.sessions.store import UnusableSessions
from persistence.validation import MAX_ERRORS

PATH: Final = "/graphql"

GRAPHQL_JSON: Final = "application/graphql-response+json"
JSON: Final = "application/json"


class GraphQLEndpoint:
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
        response: ASGIApp = await self._respond(scope, receive)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response | EventStream:
        media_type = _media_type(scope)
        if media_type is None and not accepts_events(scope):
            raise NotAcceptable(f"A response is {GRAPHQL_JSON} or {JSON}")
        state = state_of(scope)
        db = state.database(context_of(scope).usage)
        admission = Admission.of(scope, db)
        # The session of a token that was valid before is looked up as late as possible.
        known = state.authenticator.known_viewer(scope)
        payer = viewer_payer(known or await admission.authenticate(ONE_READ))
        kind = Kind.READ
        try:
            is_post = scope["method"] == "POST"
            request = request_of(
                await read_json(scope, receive, (JSON,)) if is_post else _members_of_query(scope)
            )
            if self._is_subscription(scope, request, media_type):
                return await self._subscribe(scope, db, request)
            if media_type is None:
                raise NotAcceptable(f"A response is {GRAPHQL_JSON} or {JSON}")
            kind = self._kind(request)
            _require_method(scope, kind)
            if known and state.budget.cached_refusal(payer, kind):
                # That a budget is spent is for its owner alone.
                payer, known = viewer_payer(await admission.authenticate(ONE_READ)), None
            admission.require_funds(payer, kind)
            operation = self._engine.prepare(request.query).operation(request.operation_name)
            _note(scope, operation)
            call = operation.bind(request.variables)
            cost = _cost(operation.kind, call.cost)
            key = _key(scope, cost.kind, call.fields)
            state.budget.require_payable(cost)
        except (Unauthenticated, Unavailable, UnusableSessions):
            raise
        except Exception as error:
            if known:
                payer = viewer_payer(await admission.authenticate(ONE_READ))
            if isinstance(error, MethodNotAllowed | BudgetExceeded):
                raise
            cost = _cost_of_failure(state.budget, payer, kind)
            await admission.charge(payer, cost)
            return self._reject(scope, media_type or JSON, error)

        # It has the viewer, who may be known only when the operation is executed.
        context = partial(self._context, scope, db, key)
        if known and kind is Kind.READ and call.items < MAX_ROWS:
            result = await admission.serve_reader(cost, lambda: call.execute(context()))
        else:
            if known:
                payer = viewer_payer(await admission.authenticate(ONE_READ))
            await admission.charge(payer, cost)
            result = await call.execute(context())
        errors = [field_error(scope, error) for error in result.errors]
        return _response(scope, media_type, 200, result.data, errors)

    def _is_subscription(
        self, scope: Scope, request: GraphQLRequest, media_type: str | None
    ) -> bool:
        kind = self._engine.find_kind(request.query, request.operation_name)
        # A document that cannot be parsed has no kind; who reads only events is told by one.
        is_one = kind is OperationType.SUBSCRIPTION or (kind is None and media_type is None)
        return is_one and scope["method"] == "POST" and accepts_events(scope)

    async def _subscribe(
        self, scope: Scope, db: Database, request: GraphQLRequest
    ) -> Response | EventStream:
        """The stream of a subscription; errors of its document are its only message."""
        try:
            call, context = await self.admit_subscription(scope, db, request)
            return await open_stream(scope, db, bearer_token(scope), call, context)
        except RequestRejected as error:
            return rejection_stream(scope, rejection_errors(scope, error))
        except GraphQLError as error:
            return rejection_stream(scope, [field_error(scope, error)])
        except (Unauthenticated, Unavailable):
            raise
        except ExpectedError as error:
            return rejection_stream(scope, [request_error(scope, describe(error))])

    async def admit_subscription(
        self, scope: Scope, db: Database, request: GraphQLRequest
    ) -> tuple[Call, Context]:
        """A subscription with its variables, whose viewer has paid for it.

        Raises:
            Unauthenticated, Unavailable: see ``authenticate``.
            BudgetExceeded: the viewer cannot pay.
            RequestRejected: the document is invalid, or no subscription; it was charged.
        """
        admission = Admission.of(scope, db)
        viewer = await admission.authenticate(ONE_READ)
        payer = viewer_payer(viewer)
        admission.require_funds(payer, Kind.READ)
        try:
            operation = self._engine.prepare(request.query).subscription(request.operation_name)
            _note(scope, operation)
            call = operation.bind(request.variables)
        finally:
            await admission.charge(payer, ONE_READ)
        return call, self._context(scope, db, None)

    def _context(self, scope: Scope, db: Database, key: str | None) -> Context:
        state, request = state_of(scope), context_of(scope)
        return Context(
            request.viewer,
            db,
            state.budget,
            self._max_page,
            state.settings.idempotency_hours,
            key,
            request.idempotent_writes,
        )

    def _kind(self, request: GraphQLRequest) -> Kind:
        """The budget that the operation is charged to, without parsing; a read if it is unclear."""
        operation = self._engine.find_kind(request.query, request.operation_name)
        return Kind.WRITE if operation is OperationType.MUTATION else Kind.READ

    def _reject(self, scope: Scope, media_type: str, error: Exception) -> Response:
        if isinstance(error, RequestRejected):
            errors = rejection_errors(scope, error)
        elif isinstance(error, PersistedQuery):
            errors = [not_persisted(scope)]
        elif isinstance(error, Batch):
            return _reject_batch(scope, media_type, error)
        else:
            raise error
        # With the older media type, 200 means only that the server was reached.
        return _response(scope, media_type, 200 if media_type == JSON else 400, None, errors)


class MutationByGet(MethodNotAllowed):
    """GET is allowed for this path, but not for a mutation."""

    def __init__(self) -> None:
        super().__init__(["POST"])

    def __str__(self) -> str:
        return "A mutation has to be sent by POST"


def _members_of_query(scope: Scope) -> dict[str, Any]:
    parameters = Request(scope).query_params
    repeated = [name for name in MEMBERS if len(parameters.getlist(name)) > 1]
    if repeated:
        raise InvalidInput(
            [FieldError(name, "Should occur only once", "repeated_parameter") for name in repeated]
        )
    # Clients that fill in a form leave a member empty.
    members = {name: text for name, text in parameters.items() if text or name == "query"}
    return _with_json(members)


def _with_json(members: dict[str, Any]) -> dict[str, Any]:
    for name in ("variables", "extensions"):
        if name in members:
            members[name] = decode_json(members[name].encode(), field=name)
    return members


def _require_method(scope: Scope, kind: Kind) -> None:
    if kind is Kind.WRITE and scope["method"] != "POST":
        raise MutationByGet


def _cost_of_failure(budget: Budget, payer: str, kind: Kind) -> Cost:
    """The cost of a request that fails before its cost is known: one read.

    If the reads are spent, a mutation costs one write instead: its preparation must not be free.
    """
    if kind is Kind.WRITE:
        try:
            budget.require_funds(payer, Kind.READ)
        except BudgetExceeded:
            return ONE_WRITE
    return ONE_READ


def _note(scope: Scope, operation: Operation) -> None:
    context = context_of(scope)
    context.kind, context.operation = operation.kind.value, operation.label


def _cost(kind: OperationType, amount: int) -> Cost:
    """What the root fields that will run cost, at least one."""
    mutates = kind is OperationType.MUTATION
    return Cost(Kind.WRITE if mutates else Kind.READ, max(amount, 1))


def _key(scope: Scope, kind: Kind, fields: int) -> str | None:
    """The key in the header ``Idempotency-Key``, which counts for the only field of a mutation."""
    values = header_values(scope, HEADER.lower().encode())
    if not values or kind is Kind.READ:
        return None
    if len(values) > 1:
        raise InvalidInput([FieldError(HEADER, "Should occur only once", "repeated_header")])
    if fields > 1:
        message = f"Applies to one mutation field; give each of several its own {KEY_ARGUMENT}"
        raise InvalidInput([FieldError(HEADER, message, "idempotency_key_of_several")])
    return parse_key(values[0].decode("latin-1").strip(), HEADER)


def error_response(scope: Scope, error: Exception) -> Response:
    """The response to a request that raised an exception of any kind."""
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
        # First, as the specification recommends, so that readers see them (section 7.1.8).
        members.append(b'"errors":' + without_token(scope, encode_json(errors)))
    if data is not None:
        members.append(b'"data":' + data)
    members.append(b'"extensions":' + encode_json(_extensions(scope)))
    headers = (b"content-type", f"{media_type}; charset=utf-8".encode()), (b"vary", b"Accept")
    return BytesResponse(b"{" + b",".join(members) + b"}", status, headers)


def _reject_batch(scope: Scope, media_type: str, batch: Batch) -> Response:
    """As many errors as the client sent requests, because it expects as many results.

    A client that sends more than ``MAX_ERRORS`` gets as many.
    """
    error = FieldError("", str(batch), "batch_not_supported")
    problem = describe(InvalidInput([error]))
    result = encode_json({"errors": [request_error(scope, problem)]})
    body = b"[" + b",".join([result] * min(batch.size, MAX_ERRORS)) + b"]"
    headers = {"content-type": f"{media_type}; charset=utf-8", "vary": "Accept"}
    return Response(body, problem.type.status, headers)


def _extensions(scope: Scope) -> dict[str, Any]:
    context = context_of(scope)
    extensions: dict[str, Any] = {"request_id": context.request_id}
    for charged in context.charges:
        extensions["cost"] = {
            "kind": charged.cost.kind,
            "requested": charged.cost.amount,
            "remaining": charged.window.remaining,
            "reset": charged.reset,
        }
    if context.idempotent_writes:
        replayed = [name for name, write in context.idempotent_writes.items() if write.is_replayed]
        extensions["idempotency"] = {"replayed": bool(replayed), "fields": replayed}
    return extensions
