"""How a route runs: the contract's order, from who is asking to what is asked for.

FastAPI declares, documents and dispatches; running is ours, because FastAPI reads and parses a
body before it solves dependencies. A stranger's broken JSON has to be 401, and paid for.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple, get_args

from fastapi import Depends, Path, params
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.http.body import read_json
from api.rate_limit.budget import ONE_READ, ONE_WRITE, Cost, admit, charge, viewer_payer
from api.state import state_of
from persistence.database import Database
from persistence.errors import FieldError, InvalidInput
from persistence.sessions.layouts import Viewer
from persistence.task_inputs import MAX_ERRORS, MAX_ID, TaskId, parse, parse_task_id, shown

JSON: Final = ("application/json",)
MERGE_PATCH: Final = ("application/json", "application/merge-patch+json")


def reader(request: Request) -> Viewer:
    """Who is asking, for one read."""
    viewer: Viewer = request.scope["viewer"]
    return viewer


def writer(request: Request) -> Viewer:
    """Who is asking, for one write."""
    return reader(request)


def database(request: Request) -> Database:
    """The request's access to the database."""
    db: Database = request.scope["database"]
    return db


_COSTS: Final[dict[Callable[..., Any], Cost]] = {reader: ONE_READ, writer: ONE_WRITE}

Reader = Annotated[Viewer, Depends(reader)]
Writer = Annotated[Viewer, Depends(writer)]
Db = Annotated[Database, Depends(database)]
Id = Annotated[
    TaskId,
    Path(alias="task_id", ge=1, le=MAX_ID, description="The task's id.", examples=[1]),
]


class Operation(APIRoute):
    """A route whose arguments are found in the contract's order.

    1. who is asking (401), 2. the budget (429), 3. the body (408, 413, 415, 400), 4. everything
    else that the client said (400), 5. the endpoint, which decides the rest (404, 412).
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._call: Callable[..., Awaitable[Response]] = endpoint
        self._needs = _needs(endpoint)
        self._media_types = JSON if self.methods == {"POST"} else MERGE_PATCH
        # "$" would let a line break pass at the end: /tasks%0A is not /tasks.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")
        # In place of FastAPI's own handler, whose order is another.
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        needs = self._needs
        request = Request(scope, receive)
        state = state_of(scope)
        scope["database"] = db = state.database()
        if needs.cost:
            viewer = await admit(scope, state.authenticator, state.budget, db, needs.cost)
            await charge(scope, state.budget, viewer_payer(viewer), needs.cost)
            scope["viewer"] = viewer
        arguments: dict[str, Any] = {}
        if needs.body:
            body = await read_json(scope, receive, self._media_types)
            arguments[needs.body.name] = parse(needs.body.model, body)
        said = _said_in_query(scope, needs.query)
        if needs.query:
            arguments[needs.query.name] = parse(needs.query.model, said)
        for name, provide in needs.provided:
            arguments[name] = provide(request)
        # Last, because an id that no task can have is not wrong, there is just no such task.
        for name, field in needs.ids:
            arguments[name] = parse_task_id(request.path_params[field], field)
        response = await self._call(**arguments)
        await response(scope, receive, send)


class _Named(NamedTuple):
    name: str
    model: type[BaseModel]


class _Needs(NamedTuple):
    """What an endpoint's signature asks for."""

    cost: Cost | None
    body: _Named | None
    query: _Named | None
    ids: list[tuple[str, str]]
    provided: list[tuple[str, Callable[[Request], Any]]]


def _needs(endpoint: Callable[..., Any]) -> _Needs:
    needs = _Needs(cost=None, body=None, query=None, ids=[], provided=[])
    for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items():
        kind, *metadata = get_args(parameter.annotation)
        marker = metadata[0]
        match marker:
            case params.Depends(dependency=provide) if provide is not None:
                needs.provided.append((name, provide))
                needs = needs._replace(cost=_COSTS.get(provide, needs.cost))
            case params.Path(alias=field):
                needs.ids.append((name, field or name))
            case params.Query():
                needs = needs._replace(query=_Named(name, kind))
            case params.Body():
                needs = needs._replace(body=_Named(name, kind))
            case _:
                raise TypeError(f"{endpoint.__name__}: nothing says where {name} comes from")
    return needs


def _said_in_query(scope: Scope, wanted: _Named | None) -> dict[str, str]:
    """The query parameters. A typo is never silently lost.

    Raises:
        InvalidInput: one is unknown, repeated or empty.
    """
    if not scope["query_string"]:
        return {}
    pairs = Request(scope).query_params.multi_items()
    known = wanted.model.model_fields if wanted else {}
    times = Counter(name for name, _ in pairs)
    problems = [
        problem for name, value in dict(pairs).items()
        if (problem := _query_problem(name, value, name in known, times[name]))
    ]  # fmt: skip
    if problems:
        raise InvalidInput(problems[:MAX_ERRORS])
    return dict(pairs)


def _query_problem(name: str, value: str, known: bool, times: int) -> FieldError | None:
    if not known:
        message = "Extra inputs are not permitted"
        return FieldError(shown(name), message, "extra_forbidden", shown(value, name))
    if times > 1:
        return FieldError(name, "Should be given once", "repeated_parameter", shown(value))
    if not value:
        return FieldError(name, "Should not be empty", "empty_parameter", value)
    return None
