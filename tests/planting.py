"""Where a fault is planted: four places that outlast a refactoring.

What an API takes an operation for, what it answers, what ``Database`` executes, and what
``Budget`` is charged. A fault that has no effect, or that fails itself, raises ``NotPlanted``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, TypeVar
from unittest.mock import patch

from api.charges import Cost
from api.rate_limit.budget import Budget
from persistence import idempotency, sync_tokens
from persistence.database import Database
from tests.lockstep.running_app import RunningApp
from tests.operations import Api, BulkDelete, Create, List, Operation
from tests.surfaces import Response

Fault = AbstractContextManager[None]


class NotPlanted(Exception):
    """The fault did nothing, or failed by itself. It has to be written anew."""


# --- In operations and responses -----------------------------------------------------------

Edited = TypeVar("Edited")

EditMembers = Callable[[Operation, dict[str, Any]], dict[str, Any]]

_current: Final[ContextVar[tuple[Api, Operation]]] = ContextVar("_current")
"""The API and the operation of the request that is being served."""


class _Effects:
    """Counts how often a fault changed something, and keeps what went wrong with the fault."""

    def __init__(self) -> None:
        self.count = 0
        self.defect: Exception | None = None

    def apply(self, edit: Callable[..., Edited], *values: Any) -> Edited:
        """The edited last value."""
        try:
            edited = edit(*values)
        except Exception as error:
            self.defect = error
            raise
        self.count += edited != values[-1]
        return edited


@contextmanager
def planted(*patches: Any, effects: _Effects, required: bool = True) -> Iterator[None]:
    """Apply patches. Afterwards the fault must have changed something, and not have failed.

    Raises:
        NotPlanted: it has not, or it has.
    """
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
        if effects.defect:
            raise NotPlanted(f"the fault itself failed: {effects.defect!r}") from effects.defect
        if required and not effects.count:
            raise NotPlanted("the fault changed nothing")


def changed_operations(
    edit: Callable[[Operation], Operation], *apis: Api, required: bool = True
) -> Fault:
    """The APIs take an operation for another one."""
    effects = _Effects()

    async def do(
        app: RunningApp, api: Api, operation: Operation, token: str, key: str | None = None
    ) -> Response:
        if api in apis:
            operation = effects.apply(edit, operation)
        return await original(app, api, operation, token, key)

    original = RunningApp.do
    return planted(patch.object(RunningApp, "do", do), effects=effects, required=required)


def changed_keys(edit: Callable[[str], str | None], *apis: Api) -> Fault:
    """The APIs take a key for another one, or for none."""
    effects = _Effects()

    async def do(
        app: RunningApp, api: Api, operation: Operation, token: str, key: str | None = None
    ) -> Response:
        if api in apis and key is not None:
            key = effects.apply(edit, key)
        return await original(app, api, operation, token, key)

    original = RunningApp.do
    return planted(patch.object(RunningApp, "do", do), effects=effects)


def changed_fingerprints(edit: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Fault:
    """What a request is recognised by is something else."""
    effects = _Effects()

    def fingerprint(*parts: Any) -> str:
        return idempotency.fingerprint(*effects.apply(edit, parts))

    patches = [
        patch(f"{module}.fingerprint", fingerprint)
        for module in ("rest.idempotency", "graphql_schema.context")
    ]
    return planted(*patches, effects=effects)


def changed_histories(edit: Callable[[str], str]) -> Fault:
    """A sync token has the digest of another owner."""
    effects = _Effects()

    def history(epoch: int, user_id: str) -> int:
        return original(epoch, effects.apply(edit, user_id))

    original = sync_tokens.history
    patches = [
        patch(f"persistence.{module}.history", history) for module in ("sync_tokens", "feeds")
    ]
    return planted(*patches, effects=effects)


def changed_responses(edit: Callable[[Operation, Response], Response], *apis: Api) -> Fault:
    """The APIs return something else."""
    effects = _Effects()

    async def do(
        app: RunningApp, api: Api, operation: Operation, token: str, key: str | None = None
    ) -> Response:
        response = await original(app, api, operation, token, key)
        return effects.apply(edit, operation, response) if api in apis else response

    original = RunningApp.do
    return planted(patch.object(RunningApp, "do", do), effects=effects)


def changed_documents(edit: Callable[[Operation, Any], Any], *apis: Api) -> Fault:
    """The APIs return another JSON document, and REST has the status in it."""

    def edit_body(operation: Operation, response: Response) -> Response:
        document = response.json
        edited = edit(operation, document)
        if edited == document:
            return response
        is_problem = isinstance(edited, dict) and isinstance(edited.get("status"), int)
        status = edited["status"] if is_problem else response.status
        return response._replace(status=status, body=json.dumps(edited).encode())

    return changed_responses(edit_body, *apis)


def changed_problems(edit: EditMembers, *apis: Api) -> Fault:
    """The APIs report another problem: REST's document, or the extensions of GraphQL's error."""

    def edit_document(operation: Operation, document: Any) -> Any:
        match document:
            case {"errors": [{"extensions": dict(problem)}]} if "type" in problem:
                edited = edit(operation, problem)
                return document | {"errors": [graphql_error(problem | edited)]}
            case {"type": str(), "status": int()}:
                return document | edit(operation, document)
        return document

    return changed_documents(edit_document, *apis)


def changed_errors(edit: EditMembers, *apis: Api) -> Fault:
    """The APIs report another error of a field."""

    def edit_problem(operation: Operation, problem: dict[str, Any]) -> dict[str, Any]:
        if "errors" not in problem:
            return problem
        return problem | {"errors": [edit(operation, error) for error in problem["errors"]]}

    return changed_problems(edit_problem, *apis)


def problem_of(kind: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": kind, "code": kind.upper(), "status": status, "detail": detail, "errors": []}


def not_found(task_id: str) -> dict[str, Any]:
    return problem_of("not_found_error", 404, f"Task with ID {task_id} not found")


def graphql_error(problem: dict[str, Any]) -> dict[str, Any]:
    return {"message": problem["detail"], "extensions": problem}


def changed_deletions(edit: Callable[[Operation, list[int]], list[int]]) -> Fault:
    """Both APIs return other ids of a bulk deletion."""

    def edit_document(operation: Operation, document: Any) -> Any:
        if not isinstance(operation, BulkDelete) or "errors" in document:
            return document
        result = (document.get("data") or {"result": document})["result"]
        edited = {
            name: edit(operation, [int(each) for each in ids]) for name, ids in result.items()
        }
        return document | ({"data": {"result": edited}} if "data" in document else edited)

    return changed_documents(edit_document, *Api)


def changed_page_info(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """GraphQL returns other members of ``pageInfo``."""

    def edit_document(operation: Operation, document: Any) -> Any:
        if not isinstance(operation, List) or "errors" in document:
            return document
        page = json.loads(json.dumps(document["data"]["result"]))
        page["pageInfo"] |= edit(page)
        return document | {"data": {"result": page}}

    return changed_documents(edit_document, Api.GRAPHQL)


# --- In the database and the budget --------------------------------------------------------


def _serving() -> Any:
    """Notes the current API and operation, for faults further inside."""

    async def do(
        app: RunningApp, api: Api, operation: Operation, token: str, key: str | None = None
    ) -> Response:
        _current.set((api, operation))
        return await original(app, api, operation, token, key)

    original = RunningApp.do
    return patch.object(RunningApp, "do", do)


def unvalidated(api: Api, member: str) -> Fault:
    """What is stored of a new task's member is what the client sent, not what was validated."""

    def edit(values: dict[str, Any]) -> dict[str, Any]:
        match _current.get():
            case (current, Create({**members})) if current is api and member in members:
                return values | {member: members[member]}
        return values

    effects = _Effects()
    original = Database.write

    async def write(db: Database, statement: Any, /, **values: Any) -> Any:
        return await original(db, statement, **effects.apply(edit, values))

    return planted(_serving(), patch.object(Database, "write", write), effects=effects)


def changed_sql(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Fault:
    """``Database`` executes other SQL wherever the pattern matches."""
    effects = _Effects()

    def edit(sql: str) -> str:
        return re.sub(pattern, by, sql, flags=re.DOTALL)

    def patched(name: str) -> Any:
        original = getattr(Database, name)

        async def execute(db: Database, statement: Any, /, **values: Any) -> Any:
            sql = effects.apply(edit, statement.sql)
            return await original(db, replace(statement, sql=sql), **values)

        return patch.object(Database, name, execute)

    return planted(patched("read"), patched("write"), effects=effects)


def changed_costs(edit: Callable[[Cost], Cost], *apis: Api) -> Fault:
    """``Budget`` is charged another cost."""
    effects = _Effects()
    original = Budget.spend

    async def spend(budget: Budget, payer: str, cost: Cost, *rest: Any) -> Any:
        api, _ = _current.get()
        edited = effects.apply(edit, cost) if api in apis else cost
        return await original(budget, payer, edited, *rest)

    return planted(_serving(), patch.object(Budget, "spend", spend), effects=effects)
