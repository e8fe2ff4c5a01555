"""The contract as a model: the tasks of one user in plain Python, and the result in each API.

It knows nothing of the code. Ids are the model's own: the k-th task that a user created has id k.
A cursor is the task that it follows, in an order. A comparison has to translate both.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from tests.model_refusals import (
    invalid,
    is_empty_page,
    is_mistyped,
    is_unstorable_json,
    problems_of,
)
from tests.model_results import (
    DUES,
    FOREIGN_CURSOR,
    MAX_ID,
    MAX_INT,
    MAX_NEW,
    MAX_PAGE,
    PRIORITIES,
    TASKS_A_WRITE,
    Cursor,
    Deletion,
    Expected,
    Failure,
    Kind,
    Page,
    Problem,
    Remembered,
    Result,
    Success,
    Task,
    TypeFailure,
    Updated,
)
from tests.model_values import (
    NEW,
    begin_of,
    passes,
    stored,
)
from tests.operations import (
    Api,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    Change,
    Create,
    Delete,
    Deleted,
    EmptyTrash,
    Get,
    List,
    ListTrash,
    Operation,
    Restore,
)


class Model:
    """The tasks of one user.

    Attributes:
        tasks: those that live, by id.
        trash: those that are deleted, by id.
        deletions: when each of those was deleted: the position in the trash, by id.
        created: how many were ever created.
        cursors: those that were answered so far, and another user's.
        next_cursor: of the latest page.
        trash_cursors: those of the trash that were answered so far.
        next_trash_cursor: of the latest page of the trash.
        keys: what each key was used for, by the API whose client used it.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.trash: dict[int, Task] = {}
        self.deletions: dict[int, Deletion] = {}
        self._operations = 0
        self.trash_cursors: list[Deletion] = []
        self.next_trash_cursor: Deletion | None = None
        self.created = 0
        self.cursors: list[Cursor] = [FOREIGN_CURSOR]
        self.next_cursor: Cursor | None = None
        self._keys: dict[Cursor, Any] = {FOREIGN_CURSOR: (0, 0)}
        self._changed: dict[int, int] = {}
        self._changes = 0
        self.keys: dict[str, dict[Api, Remembered]] = {}

    def add(self, number: int) -> list[Task]:
        """Add tasks without a request. Every second has a description, every third is completed."""
        new = [
            Task(
                self.created + n,
                f"import {n % 5}",
                "imported" if n % 2 else None,
                n % 3 == 0,
                DUES[n % 4],
                PRIORITIES[n % 4],
                [["home"], ["garden", "home"], []][n % 3],
            )
            for n in range(1, number + 1)
        ]
        self.tasks |= {task.id: task for task in new}
        self.created += number
        return new

    def do_once(self, operation: Operation, key: str, swapped: bool = False) -> dict[Api, Expected]:
        """Do an operation with an idempotency key, around which there may be a pair of quotes.

        Args:
            swapped: the client of each API uses the other one; a key belongs to the client.
        """
        if not self._reaches_the_work(operation):
            return self.do(operation)
        clients = {api: _OTHER[api] if swapped else api for api in Api}
        requests = {api: self._request(operation, api) for api in Api}
        key = key[1:-1] if key[0] == key[-1] == '"' else key
        if key not in self.keys:
            expected = self.do(operation)
            self.keys[key] = {
                clients[api]: Remembered(api, requests[api], expected[api].result) for api in Api
            }
            return expected
        amount = _amount(operation)
        return {
            api: self._repeated(self.keys[key][clients[api]], api, requests[api], amount)
            for api in Api
        }

    def _repeated(self, earlier: Remembered, api: Api, request: Any, amount: int) -> Expected:
        if (earlier.api, earlier.request) == (api, request):
            return Expected(earlier.result, Kind.WRITE, amount, is_replayed=True)
        detail = "A repeat has to be the same request. A new request needs a key of its own."
        return Expected(Failure("idempotency_mismatch", 422, detail, []), Kind.WRITE, amount)

    def _reaches_the_work(self, operation: Operation) -> bool:
        """Whether it is a write that is neither refused as invalid, nor for an impossible id."""
        if isinstance(operation, _READS) or is_unstorable_json(operation):
            return False
        if any(problems_of(operation, Api.REST)) or is_mistyped(operation):
            return False
        has_id = isinstance(operation, Change | Delete | Restore)
        return not has_id or 1 <= int(operation.id) <= MAX_ID

    def _request(self, operation: Operation, api: Api) -> Any:
        """What has to be the same for a request to be the same."""
        match operation:
            case Create(members):
                return "create", NEW | stored(members)
            case BulkCreate(tasks):
                return "create many", [NEW | stored(members) for members in tasks]
            case BulkUpdate(ids, members):
                return "change many", [self._known(each) for each in ids], stored(members)
            case Change(task_id, members, version, whole):
                method = "PUT" if whole else "PATCH"
                change = (self._known(task_id), stored(members), _versions(version, api))
                return ("change", *change, method if api is Api.REST else None)
            case Delete(task_id, version):
                return "delete", self._known(task_id), _versions(version, api)
            case BulkDelete(ids):
                return "delete many", [self._known(each) for each in ids]
            case Restore(task_id):
                return "restore", self._known(task_id)
            case EmptyTrash():
                return "empty"
        raise TypeError(operation)

    def _known(self, task_id: Any) -> tuple[int, bool]:
        """An id, and whether it is the model's: an unknown one is sent to the app as it is."""
        return int(task_id), int(task_id) <= self.created

    def do(self, operation: Operation) -> dict[Api, Expected]:
        """Do an operation. The results of the APIs differ in places, but store the same."""
        if is_unstorable_json(operation):
            malformed = invalid([Problem("", "json_invalid", None)])
            results: dict[Api, Result] = dict.fromkeys(Api, malformed)
        else:
            rest = self._result_in_rest(operation)
            results = {Api.REST: rest, Api.GRAPHQL: self._result_in_graphql(operation, rest)}
        charges = {api: _charged(operation, api, result) for api, result in results.items()}
        return {
            api: Expected(result, charges[api], _amount_of(operation, charges[api]))
            for api, result in results.items()
        }

    def _result_in_rest(self, operation: Operation) -> Result:
        problems = [*problems_of(operation, Api.REST)]
        return invalid(problems) if problems else self._perform(operation)

    def _result_in_graphql(self, operation: Operation, rest: Result) -> Result:
        """The result in GraphQL, from that of REST. All differences are here."""
        if is_mistyped(operation):
            assert isinstance(rest, Failure), "one API must not store what the other refuses"
            return TypeFailure()
        problems = [*problems_of(operation, Api.GRAPHQL)]
        is_refused_by_rest = isinstance(rest, Failure) and rest.status == 400
        is_refused_for_more = isinstance(rest, Failure) and len(rest.problems) > 1
        assert bool(problems) == (
            is_refused_by_rest and (is_refused_for_more or not is_empty_page(operation))
        )
        if problems:
            return invalid(problems)
        match operation, rest:
            case Get(), Failure(status=404):
                return Success(None)
            case Delete(), Success():
                return Success(self._deleted)
            case EmptyTrash(), _:
                return Success(self._emptied)
            case ListTrash(query), _:
                page = self._list_trash(query, default_limit=50)
                has_previous = query.get("cursor") is not None
                return Success(page._replace(total=len(self.trash), has_previous=has_previous))
            case List(query), _:
                page = self._list(query, default_limit=50)
                has_previous = query.get("cursor") is not None
                total = len(self._filtered(query))
                return Success(page._replace(total=total, has_previous=has_previous))
        return rest

    def _perform(self, operation: Operation) -> Result:
        match operation:
            case Create(members):
                return Success(self._create(members))
            case BulkCreate(tasks):
                return Success([self._create(members) for members in tasks])
            case BulkUpdate(ids, members):
                unique = [*dict.fromkeys(int(each) for each in ids)]
                matching = [task_id for task_id in unique if task_id in self.tasks]
                updated = [self._change(self.tasks[task_id], members) for task_id in matching]
                missing = [task_id for task_id in unique if task_id not in matching]
                return Success(Updated(updated, missing))
            case List(query):
                page = self._list(query, default_limit=MAX_PAGE)
                assert isinstance(page.cursor, Cursor | None)
                self.next_cursor = page.cursor
                if page.cursor is not None and page.cursor not in self.cursors:
                    self.cursors.append(page.cursor)
                return Success(page)
            case ListTrash(query):
                page = self._list_trash(query, default_limit=MAX_PAGE)
                assert isinstance(page.cursor, Deletion | None)
                self.next_trash_cursor = page.cursor
                if page.cursor is not None and page.cursor not in self.trash_cursors:
                    self.trash_cursors.append(page.cursor)
                return Success(page)
            case BulkDelete(ids):
                return Success(self._delete_many([*dict.fromkeys(int(each) for each in ids)]))
            case EmptyTrash():
                self._emptied = len(self.trash)
                self.trash.clear()
                return Success(None)
            case _:
                return self._perform_on_one(operation)

    def _perform_on_one(self, operation: Get | Change | Delete | Restore) -> Result:
        tasks = self.trash if isinstance(operation, Restore) else self.tasks
        task = tasks.get(int(operation.id))
        if task is None:
            detail = f"Task with ID {operation.id[:200]} not found"
            return Failure("not_found_error", 404, detail, [])
        match operation:
            case Change(version=int(version)) | Delete(version=int(version)) if (
                version != task.version
            ):
                detail = f"The task is at version {task.version}"
                return Failure("precondition_failed", 412, detail, [])
            case Change(members=members):
                return Success(self._change(task, members))
            case Delete():
                self._deleted = task
                self._delete_many([task.id])
                return Success(None)
            case Restore():
                del self.trash[task.id]
                return Success(self._store(replace(task, version=task.version + 1)))
        return Success(task)

    def _create(self, members: dict[str, Any]) -> Task:
        self.created += 1
        return self._store(Task(self.created, **(NEW | stored(members))))

    def _change(self, task: Task, members: dict[str, Any]) -> Task:
        changed = replace(task, **stored(members))
        return self._store(task if changed == task else replace(changed, version=task.version + 1))

    def _store(self, task: Task) -> Task:
        if self.tasks.get(task.id) != task:
            self._changes += 1
            self._changed[task.id] = self._changes
        self.tasks[task.id] = task
        return task

    def _list(self, query: dict[str, Any], default_limit: int) -> Page:
        limit = default_limit if query.get("limit") is None else query["limit"]
        order, cursor = query.get("order") or "created_desc", query.get("cursor")
        rest = self._filtered(query)
        if cursor is not None:
            after, descending = self._keys[cursor], order.endswith("_desc")
            keys = [(task, self._key(task, order)) for task in rest]
            rest = [task for task, key in keys if (key < after if descending else key > after)]
        if not len(rest) > limit > 0:
            return Page(rest[:limit], None)
        last = rest[limit - 1]
        following = cursor_after(last, order)
        self._keys[following] = self._key(last, order)
        return Page(rest[:limit], following)

    def _list_trash(self, query: dict[str, Any], default_limit: int) -> Page:
        limit = default_limit if query.get("limit") is None else query["limit"]
        positions = sorted((self.deletions[task_id] for task_id in self.trash), reverse=True)
        after = query.get("cursor")
        rest = [each for each in positions if after is None or each < after]
        tasks = [self.trash[each.id] for each in rest[:limit]]
        return Page(tasks, rest[limit - 1] if len(rest) > limit > 0 else None)

    def _filtered(self, query: dict[str, Any]) -> list[Task]:
        """The tasks that pass a filter, in an order."""
        order = query.get("order") or "created_desc"
        descending = order.endswith("_desc")
        matching = [task for task in self.tasks.values() if passes(task, query)]
        return sorted(matching, key=lambda task: self._key(task, order), reverse=descending)

    def _key(self, task: Task, order: str) -> tuple[int, int]:
        match order.rpartition("_")[0]:
            case "updated":
                return self._changed.get(task.id, 0), task.id
            case "due":
                return begin_of(task.due, "UTC") if task.due else 2**70, task.id
            case "priority":
                return PRIORITIES.index(task.priority), task.id
        return task.id, task.id

    def _delete_many(self, ids: list[int]) -> Deleted:
        self._operations += 1
        deleted = [task_id for task_id in ids if task_id in self.tasks]
        for task_id in deleted:
            self.trash[task_id] = self.tasks.pop(task_id)
            self.deletions[task_id] = Deletion(self._operations, task_id)
        return Deleted(deleted, [task_id for task_id in ids if task_id not in deleted])


def cursor_after(task: Task, order: str) -> Cursor:
    """The cursor after a task, as it is now."""
    return Cursor(order, task.id, 0 if order.startswith("created") else task.version)


_READS: Final = (Get, List, ListTrash)

_OTHER: Final = {Api.REST: Api.GRAPHQL, Api.GRAPHQL: Api.REST}


def _versions(version: int | None, api: Api) -> list[int] | None:
    """The versions of a condition. In REST a tag that no version has matches nothing."""
    if version is None or api is Api.GRAPHQL or 1 <= version <= MAX_INT:
        return None if version is None else [version]
    return []


def _charged(operation: Operation, api: Api, result: Result) -> Kind:
    """A GraphQL document that cannot be executed costs one read, also if it is a mutation."""
    malformed = Problem("", "json_invalid", None)
    match result:
        case _ if isinstance(operation, _READS):
            return Kind.READ
        case TypeFailure():
            return Kind.READ
        case Failure(problems=[problem]) if problem == malformed and api is Api.GRAPHQL:
            return Kind.READ
    return Kind.WRITE


def _amount(operation: Operation) -> int:
    """How many units an operation costs that reaches the budget as what it is."""
    match operation:
        case BulkCreate(list(tasks)) if 1 <= len(tasks) <= MAX_NEW:
            return math.ceil(len(tasks) / TASKS_A_WRITE)
    return 1


def _amount_of(operation: Operation, charged: Kind) -> int:
    # What is not JSON is not known to be many.
    is_known = charged is Kind.WRITE and not is_unstorable_json(operation)
    return _amount(operation) if is_known else 1
