"""A user of one of the APIs, as the comparison sees them: with the ids and cursors of the model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from tests import model, model_results, operations
from tests.model_results import Failure, Problem, Result, Success, TypeFailure
from tests.operations import (
    Api,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    Create,
    Deleted,
    EmptyTrash,
    List,
    ListTrash,
    Operation,
)
from tests.surfaces import (
    SURFACES,
    ApiError,
    Response,
)


class ServerError(Exception):
    """The app failed. That is never a difference between the APIs, but a defect."""


@dataclass
class Client:
    """A user, with the translation between the ids of the app and those of the model.

    Attributes:
        real_ids: the ids of the tasks, by the model's ids.
        model_ids: the model's ids, by the real ones.
        cursors: the cursors, by the model's.
        deletions: the positions in the trash, by the model's id of the task and its time.
        times: creation, latest change and completion of each task in the latest response, by the
            model's id.
        messages: of the errors in the latest response, by code.
        spent: how much of each budget was spent.
        created: how many tasks were created.
        replica: the tasks that the changes told of, by their real ids.
        since: the sync token that belongs to them.
    """

    user_id: str
    token: str = field(repr=False)
    real_ids: dict[int, int] = field(default_factory=dict)
    model_ids: dict[int, int] = field(default_factory=dict)
    cursors: dict[model_results.Cursor | model_results.Deletion, str] = field(default_factory=dict)
    deletions: dict[tuple[int, str], model_results.Deletion] = field(default_factory=dict)
    times: dict[int, tuple[str, str, str | None]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    created: int = 0
    replica: dict[int, operations.Task] = field(default_factory=dict)
    since: str | None = None

    def add_task(self, real_id: int, model_id: int | None = None) -> None:
        """Register a task; without an id of the model it is the next one of this user."""
        if model_id is None:
            self.created += 1
            model_id = self.created
        self.real_ids[model_id] = real_id
        self.model_ids[real_id] = model_id

    def add_cursor(
        self, position: model_results.Cursor | model_results.Deletion, cursor: str
    ) -> None:
        """Register the cursor of a position, which is the same in both APIs and at any time."""
        assert self.cursors.setdefault(position, cursor) == cursor

    def translate(self, operation: Operation) -> Operation:
        """An operation of the model, with the real ids and cursors."""
        match operation:
            case Create() | BulkCreate() | EmptyTrash():
                return operation
            case List({"cursor": model_results.Cursor() as after} as query):
                query = query | {"cursor": self.cursors[after]}
                return replace(operation, query=query, detailed=True)
            case ListTrash({"cursor": model_results.Deletion() as after} as query):
                query = query | {"cursor": self.cursors[after]}
                return replace(operation, query=query, detailed=True)
            case List() | ListTrash():
                return replace(operation, detailed=True)
            case BulkDelete(list(ids)) | BulkUpdate(list(ids)):
                return replace(operation, ids=[self._real_id(each) for each in ids])
            case BulkDelete() | BulkUpdate():
                return operation
        return replace(operation, id=self._real_id(operation.id))

    def _real_id(self, value: Any) -> Any:
        if isinstance(value, str):
            is_canonical = re.fullmatch("[1-9][0-9]{,8}", value)
            return str(self.real_ids.get(int(value), value)) if is_canonical else value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return type(value)(self.real_ids.get(value, value)) if is_number else value

    def read(self, api: Api, operation: Operation, response: Response) -> Result:
        """The result in a response, with the model's ids and cursors.

        Raises:
            AssertionError: the response contradicts itself or an earlier one.
            ServerError: the app failed.
        """
        self.times.clear()
        self.messages.clear()
        try:
            result = SURFACES[api].decode(operation, response)
        except ApiError as error:
            return self._failure(error)
        match result:
            case operations.Task():
                if isinstance(operation, Create):
                    self._add_new([result])
                return Success(self._task(result))
            case list():
                self._add_new(result)
                return Success([self._task(task) for task in result])
            case operations.Updated(updated, not_found):
                tasks = [self._task(task) for task in updated]
                return Success(model_results.Updated(tasks, self._model_ids(not_found)))
            case operations.Page():
                order = None
                if isinstance(operation, List):
                    order = operation.query.get("order") or "created_desc"
                return Success(self._page(result, order))
            case int():
                return Success(result)
            case Deleted(deleted, not_found):
                return Success(Deleted(self._model_ids(deleted), self._model_ids(not_found)))
        return Success(None)

    def apply(self, changes: operations.Changes) -> None:
        """Bring the replica to the state of a page of changes."""
        for task in changes.tasks:
            earlier = self.replica.get(task.id)
            assert earlier is None or earlier.version <= task.version
            self.replica[task.id] = task
            if task.deleted_at:
                del self.replica[task.id]
        self.since = changes.token

    def replicated(self) -> list[model.Task]:
        """The tasks of the replica, in the order of the model's ids."""
        return sorted(map(self._task, self.replica.values()), key=lambda task: task.id)

    def _add_new(self, tasks: list[operations.Task]) -> None:
        for task in tasks:
            if task.id not in self.model_ids:
                self.add_task(task.id)

    def _failure(self, error: ApiError) -> Failure | TypeFailure:
        problem = error.problem
        if problem["status"] >= 500:
            raise ServerError(problem)
        if problem.get("code") == "GRAPHQL_VALIDATION_FAILED":
            return TypeFailure(problem["type"], problem["status"])
        errors = problem.get("errors", [])
        self.messages.update({each["code"]: each["message"] for each in errors})
        positions = {cursor: position for position, cursor in self.cursors.items()}
        problems = [
            Problem(each["field"], each["code"], positions.get(str(each["value"]), each["value"]))
            for each in errors
        ]
        return Failure(
            problem["type"],
            problem["status"],
            self._detail(problem["detail"]),
            sorted(problems, key=lambda it: it.field),
        )

    def _detail(self, text: str) -> str:
        match = re.fullmatch("Task with ID ([0-9]{1,18}) not found", text)
        return text.replace(match[1], str(self._model_ids([match[1]])[0])) if match else text

    def _task(self, task: operations.Task, *, is_deleted: bool = False) -> model_results.Task:
        assert task.user_id == self.user_id
        assert (task.deleted_at is not None) == is_deleted
        [model_id] = self._model_ids([task.id])
        self.times[model_id] = (task.created_at, task.updated_at, task.completed_at)
        assert (task.completed_at is not None) is task.completed
        values = {name: getattr(task, name) for name in (*operations.EDITABLE, "version")}
        return model_results.Task(model_id, **values)

    def _page(self, page: operations.Page, order: str | None) -> model_results.Page:
        """A page in an order, or of the trash."""
        tasks = [self._task(task, is_deleted=order is None) for task in page.tasks]
        positions: list[model_results.Cursor | model_results.Deletion]
        if order is None:
            times = [str(task.deleted_at) for task in page.tasks]
            positions = [
                self.deletions[task.id, time] for task, time in zip(tasks, times, strict=True)
            ]
        else:
            positions = [model.cursor_after(task, order) for task in tasks]
        for position, cursor in zip(positions, page.cursors or (), strict=page.cursors is not None):
            self.add_cursor(position, cursor)
        after = None
        if page.next_cursor is not None:
            after = positions[-1]
            self.add_cursor(after, page.next_cursor)
        return model_results.Page(tasks, after, page.total, page.has_previous)

    def _model_ids(self, real_ids: list[Any]) -> list[int]:
        return [self.model_ids.get(int(each), int(each)) for each in real_ids]
