"""The contract as a model: the tasks of one user in plain Python, and the answer of each API.

It knows nothing of the code. Ids are the model's own: the k-th task that a user created has id k.
A cursor is the task that it follows, in an order. A comparison has to translate both.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from tests.operations import (
    READ_ONLY,
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

MAX_ID: Final = 2**63 - 1
MAX_PAGE: Final = 1000
MAX_NEW: Final = 100
TASKS_A_WRITE: Final = 20
MAX_INT: Final = 2**31 - 1
"""The largest value of GraphQL's ``Int``."""

# Unicode's property White_Space; not U+001C to U+001F, U+180E, U+200B or U+FEFF.
WHITE_SPACE: Final = "".join(
    map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029])
) + "\u202f\u205f\u3000"  # fmt: skip

PRIORITIES: Final = ("none", "low", "medium", "high")

DUES: Final = ("2025-12-10", None, "2025-12-10T00:00:00.000000Z", "2025-12-09T23:30:00.000000Z")
"""When tasks are due that are added without a request."""

FOREIGN_IDS: Final = (10**6 + 1, 10**6 + 2, 10**6 + 3)
"""The ids of another user's tasks, of which the last one is in the trash."""


class Cursor(NamedTuple):
    """A position in a list: after this version of a task. By creation, all versions are one."""

    order: str
    id: int
    version: int


FOREIGN_CURSOR: Final = Cursor("created_desc", 0, 0)
"""Another user's cursor, at a position after all of the user's own tasks."""


class Kind(StrEnum):
    """The budget that a request is charged to."""

    READ = "read"
    WRITE = "write"


# --- Answers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task, without what the server adds: its owner and its times."""

    id: int
    title: str
    description: str | None
    completed: bool
    due: str | None = None
    priority: str = "none"
    tags: list[str] = field(default_factory=list)
    version: int = 1


class Deletion(NamedTuple):
    """A position in the trash: the cursor after a deleted task.

    Attributes:
        number: of the operation that deleted it.
    """

    number: int
    id: int


class Page(NamedTuple):
    """A part of the list or of the trash. Only GraphQL answers ``total`` and ``has_previous``."""

    tasks: list[Task]
    cursor: Cursor | Deletion | None
    total: int | None = None
    has_previous: bool | None = None


class Updated(NamedTuple):
    """The result of a bulk change."""

    updated: list[Task]
    not_found: list[int]


class Success(NamedTuple):
    """The operation was done; the value is the answer."""

    value: Task | list[Task] | Page | Updated | Deleted | int | None


class Problem(NamedTuple):
    """One error of an input."""

    field: str
    code: str
    value: Any


class Failure(NamedTuple):
    """The operation was refused."""

    type: str
    status: int
    detail: str
    problems: list[Problem]


class TypeFailure(NamedTuple):
    """GraphQL's own type system refuses the variables, in graphql-core's words."""

    type: str = "validation_error"
    status: int = 400


Answer = Success | Failure | TypeFailure


class Expected(NamedTuple):
    """The answer of an API, and how much is taken from which budget.

    ``is_replayed``: the answer is that of an earlier request with the same idempotency key.
    """

    answer: Answer
    charged: Kind
    amount: int = 1
    is_replayed: bool = False


class Remembered(NamedTuple):
    """What a key was used for: through which API, for which request, and with which answer."""

    api: Api
    request: Any
    answer: Answer


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
                clients[api]: Remembered(api, requests[api], expected[api].answer) for api in Api
            }
            return expected
        amount = _amount(operation)
        return {
            api: self._repeated(self.keys[key][clients[api]], api, requests[api], amount)
            for api in Api
        }

    def _repeated(self, earlier: Remembered, api: Api, request: Any, amount: int) -> Expected:
        if (earlier.api, earlier.request) == (api, request):
            return Expected(earlier.answer, Kind.WRITE, amount, is_replayed=True)
        detail = "A repeat has to be the same request. A new request needs a key of its own."
        return Expected(Failure("idempotency_mismatch", 422, detail, []), Kind.WRITE, amount)

    def _reaches_the_work(self, operation: Operation) -> bool:
        """Whether it is a write that is neither refused as invalid, nor for an impossible id."""
        if isinstance(operation, _READS) or _is_unstorable_json(operation):
            return False
        if any(_problems(operation, Api.REST)) or _is_mistyped(operation):
            return False
        has_id = isinstance(operation, Change | Delete | Restore)
        return not has_id or 1 <= int(operation.id) <= MAX_ID

    def _request(self, operation: Operation, api: Api) -> Any:
        """What has to be the same for a request to be the same."""
        match operation:
            case Create(members):
                return "create", _NEW | _stored(members)
            case BulkCreate(tasks):
                return "create many", [_NEW | _stored(members) for members in tasks]
            case BulkUpdate(ids, members):
                return "change many", [self._known(each) for each in ids], _stored(members)
            case Change(task_id, members, version, whole):
                method = "PUT" if whole else "PATCH"
                change = (self._known(task_id), _stored(members), _versions(version, api))
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
        """Do an operation. The APIs answer differently in places, but store the same."""
        if _is_unstorable_json(operation):
            malformed = _invalid([Problem("", "json_invalid", None)])
            answers: dict[Api, Answer] = dict.fromkeys(Api, malformed)
        else:
            rest = self._answer_rest(operation)
            answers = {Api.REST: rest, Api.GRAPHQL: self._answer_graphql(operation, rest)}
        charges = {api: _charged(operation, api, answer) for api, answer in answers.items()}
        return {
            api: Expected(answer, charges[api], _amount_of(operation, charges[api]))
            for api, answer in answers.items()
        }

    def _answer_rest(self, operation: Operation) -> Answer:
        problems = [*_problems(operation, Api.REST)]
        return _invalid(problems) if problems else self._perform(operation)

    def _answer_graphql(self, operation: Operation, rest: Answer) -> Answer:
        """The answer of GraphQL, from that of REST. All differences are here."""
        if _is_mistyped(operation):
            assert isinstance(rest, Failure), "one API must not store what the other refuses"
            return TypeFailure()
        problems = [*_problems(operation, Api.GRAPHQL)]
        is_refused_by_rest = isinstance(rest, Failure) and rest.status == 400
        is_refused_for_more = isinstance(rest, Failure) and len(rest.problems) > 1
        assert bool(problems) == (
            is_refused_by_rest and (is_refused_for_more or not _is_empty_page(operation))
        )
        if problems:
            return _invalid(problems)
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

    def _perform(self, operation: Operation) -> Answer:
        match operation:
            case Create(members):
                return Success(self._create(members))
            case BulkCreate(tasks):
                return Success([self._create(members) for members in tasks])
            case BulkUpdate(ids, members):
                unique = [*dict.fromkeys(int(each) for each in ids)]
                found = [task_id for task_id in unique if task_id in self.tasks]
                updated = [self._change(self.tasks[task_id], members) for task_id in found]
                missing = [task_id for task_id in unique if task_id not in found]
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

    def _perform_on_one(self, operation: Get | Change | Delete | Restore) -> Answer:
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
        return self._store(Task(self.created, **(_NEW | _stored(members))))

    def _change(self, task: Task, members: dict[str, Any]) -> Task:
        changed = replace(task, **_stored(members))
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
        found = [task for task in self.tasks.values() if passes(task, query)]
        return sorted(found, key=lambda task: self._key(task, order), reverse=descending)

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


def begin_of(due: str, zone: str) -> int:
    """When a day begins in a zone, or the moment: microseconds since the day before year 1."""
    moment = datetime.fromisoformat(due.removesuffix("Z"))
    offset = ZoneInfo(zone).utcoffset(moment) if len(due) == 10 else timedelta()
    assert offset is not None
    return (moment - datetime.min - offset) // timedelta(microseconds=1)


def passes(task: Task, query: dict[str, Any]) -> bool:
    """Whether a task passes a filter. The model knows of its times that they are now."""
    sent = {name: value for name, value in query.items() if value is not None}
    zone, text = sent.get("zone", "UTC"), f"{task.title}\n{task.description or ''}"
    keys = {tag.casefold() for tag in task.tags}
    claims = {
        "completed": lambda completed: task.completed is completed,
        "priority": lambda priorities: task.priority in priorities,
        "tags": lambda tags: {tag.strip(WHITE_SPACE).casefold() for tag in tags} <= keys,
        "has_due": lambda has_due: (task.due is not None) is has_due,
        "due_from": lambda bound: is_due_before(task.due, bound, zone) is False,
        "due_before": lambda bound: is_due_before(task.due, bound, zone) is True,
        "q": lambda q: all(word in folded(text) for word in folded(q).split()),
        "created_from": lambda moment: moment < NOW,
        "created_before": lambda moment: moment > NOW,
        "updated_from": lambda moment: moment < NOW,
        "updated_before": lambda moment: moment > NOW,
    }
    return all(claim(sent[name]) for name, claim in claims.items() if name in sent)


NOW: Final = "2026"
"""Between the past and the future of the filters that are tried."""


def is_due_before(due: str | None, bound: str, zone: str) -> bool | None:
    """Whether a task is due before a day or moment, as the zone has it; ``None``: it never is."""
    bound = _due(bound) or ""
    return None if due is None else begin_of(due, zone) < begin_of(bound, zone)


def folded(text: str) -> str:
    """Text without case, accents and width."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(each for each in letters if unicodedata.category(each)[0] != "M")


_READS: Final = (Get, List, ListTrash)

_OTHER: Final = {Api.REST: Api.GRAPHQL, Api.GRAPHQL: Api.REST}


def _versions(version: int | None, api: Api) -> list[int] | None:
    """The versions of a condition. In REST a tag that no version has matches nothing."""
    if version is None or api is Api.GRAPHQL or 1 <= version <= MAX_INT:
        return None if version is None else [version]
    return []


def _charged(operation: Operation, api: Api, answer: Answer) -> Kind:
    """A GraphQL document that cannot be executed costs one read, also if it is a mutation."""
    malformed = Problem("", "json_invalid", None)
    match answer:
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
    is_known = charged is Kind.WRITE and not _is_unstorable_json(operation)
    return _amount(operation) if is_known else 1


# --- What is stored -----------------------------------------------------------------------


def _new(members: dict[str, Any]) -> dict[str, Any]:
    return {"description": None, "completed": False} | _stored(members)


def _stored(members: dict[str, Any]) -> dict[str, Any]:
    return {name: _STORED[name](value) for name, value in members.items() if name in _STORED}


def _due(text: str | None) -> str | None:
    if text is None or len(text) == 10:
        return text
    offset = "Z" if text[-1] in "Zz" else text[-6:]
    seconds, _, fraction = text.removesuffix(text[-len(offset) :]).upper().partition(".")
    moment = datetime.fromisoformat(f"{seconds}.{fraction[:6].ljust(6, '0')}{offset}")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _tags(tags: list[str]) -> list[str]:
    kept: list[str] = []
    for tag in (each.strip(WHITE_SPACE) for each in tags):
        if tag.casefold() not in [each.casefold() for each in kept]:
            kept.append(tag)
    return kept


_NEW: Final[dict[str, Any]] = {
    "description": None,
    "completed": False,
    "due": None,
    "priority": "none",
    "tags": [],
}
"""What a new task has where a member is absent."""

_STORED: Final[dict[str, Callable[[Any], Any]]] = {
    "title": lambda title: title.strip(WHITE_SPACE),
    "description": lambda text: text if text and text.strip(WHITE_SPACE) else None,
    "completed": lambda completed: completed,
    "due": _due,
    "priority": lambda priority: priority,
    "tags": _tags,
}


# --- What is refused, and why -------------------------------------------------------------

_SPELLING: Final = {
    "task_id": "id",
    "task_ids": "ids",
    "tasks": "inputs",
    "limit": "first",
    "cursor": "after",
    "order": "orderBy",
    "completed": "filter.completed",
    "priority": "filter.priority",
    "tags": "filter.tags",
    "has_due": "filter.hasDue",
    "due_from": "filter.dueFrom",
    "due_before": "filter.dueBefore",
    "zone": "filter.zone",
    "created_from": "filter.createdFrom",
    "created_before": "filter.createdBefore",
    "updated_from": "filter.updatedFrom",
    "updated_before": "filter.updatedBefore",
    "q": "filter.q",
}
"""GraphQL's names for ids and for the arguments of lists."""


def _invalid(problems: list[Problem]) -> Failure:
    detail = "One or more validation errors occurred"
    return Failure("validation_error", 400, detail, sorted(problems, key=lambda it: it.field))


def _problems(operation: Operation, api: Api) -> Iterator[Problem]:
    """The errors of an input: all of them."""
    match operation:
        case Create(members):
            yield from _problems_of_members(members, required=["title"])
        case List(query) | ListTrash(query):
            yield from _spelled(_problems_of_query(query, api), api)
        case BulkCreate(tasks):
            yield from _spelled(_problems_of_tasks(tasks), api)
        case BulkUpdate(ids, members):
            yield from _spelled(_problems_of_ids(ids, api), api)
            for problem in _problems_of_members(members, required=[]):
                # GraphQL names no argument that is an object.
                yield problem if api is Api.GRAPHQL else _within("changes", problem)
        case BulkDelete(ids):
            yield from _spelled(_problems_of_ids(ids, api), api)
        case Change(task_id, members):
            yield from _problems_of_members(members, required=[])
            yield from _spelled(_problems_of_id(task_id), api)
        case Get(task_id) | Delete(task_id) | Restore(task_id):
            yield from _spelled(_problems_of_id(task_id), api)


def _spelled(problems: Iterator[Problem], api: Api) -> Iterator[Problem]:
    for problem in problems:
        first, *rest = problem.field.split(".")
        if api is Api.GRAPHQL:
            first = _SPELLING[first]
        yield problem._replace(field=".".join([first, *rest]))


def _within(place: str, problem: Problem) -> Problem:
    return problem._replace(field=f"{place}.{problem.field}".removesuffix("."))


def _problems_of_tasks(tasks: Any) -> Iterator[Problem]:
    if not isinstance(tasks, list):
        yield Problem("tasks", "list_type", tasks)
    elif not tasks:
        yield Problem("tasks", "too_short", tasks)
    else:
        assert len(tasks) <= MAX_NEW, "the value of the error differs between the APIs"
        for number, members in enumerate(tasks):
            for problem in _problems_of_members(members, required=["title"]):
                yield _within(f"tasks.{number}", problem)


def _problems_of_members(members: Any, required: list[str]) -> Iterator[Problem]:
    if not isinstance(members, dict):
        yield Problem("", "model_type", members)
        return
    for name in required:
        if name not in members:
            yield Problem(name, "missing", None)
    for name, value in members.items():
        code = _MEMBERS[name](value) if name in _MEMBERS else "extra_forbidden"
        problems = [Problem(name, code, value)] if code and name not in READ_ONLY else []
        for problem in (*problems, *(_tags_errors(value) if name == "tags" else ())):
            yield problem._replace(value=_cut(problem.value))


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:200]
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value if len(text) <= 200 else text[:200]


def _title_error(value: Any) -> str | None:
    if not isinstance(value, str):
        return "string_type"
    length = len(value.strip(WHITE_SPACE))
    return (
        "string_too_short" if length < 1
        else "string_too_long" if length > 200
        else "string_nul" if "\0" in value
        else None
    )  # fmt: skip


def _description_error(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "string_type"
    return "string_too_long" if len(value) > 1000 else "string_nul" if "\0" in value else None


def _completed_error(value: Any) -> str | None:
    return None if isinstance(value, bool) else "bool_type"


_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_OFFSET: Final = r"([Zz]|[+-][0-9]{2}:[0-9]{2})"


def _due_error(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "string_type"
    if re.fullmatch(_DAY + _TIME, value):
        return "offset_missing"
    return None if _is_due(value) else "due_invalid"


def _is_due(text: str) -> bool:
    if not re.fullmatch(f"{_DAY}({_TIME}{_OFFSET})?", text):
        return False
    try:
        due = _due(text)
        date.fromisoformat(text[:10])
    except (ValueError, OverflowError):
        return False
    return due is not None


def _priority_error(value: Any) -> str | None:
    return None if isinstance(value, str) and value in PRIORITIES else "enum"


def _tags_errors(value: Any) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield Problem("tags", "list_type", value)
    elif len(value) > 20:
        yield Problem("tags", "too_long", value)
    else:
        for place, tag in enumerate(value):
            if code := _tag_error(tag):
                yield Problem(f"tags.{place}", code, tag)


def _tag_error(tag: Any) -> str | None:
    if not isinstance(tag, str):
        return "string_type"
    length = len(tag.strip(WHITE_SPACE))
    return (
        "string_too_short" if length < 1
        else "string_too_long" if length > 50
        else "string_nul" if "\0" in tag
        else "tag_comma" if "," in tag
        else None
    )  # fmt: skip


_MEMBERS: Final[dict[str, Callable[[Any], str | None]]] = {
    "title": _title_error,
    "description": _description_error,
    "completed": _completed_error,
    "due": _due_error,
    "priority": _priority_error,
    "tags": lambda tags: None,  # See ``_tags_errors``.
}


def _problems_of_query(query: dict[str, Any], api: Api) -> Iterator[Problem]:
    sent = {name: value for name, value in query.items() if value is not None}
    if api is Api.REST:
        # GraphQL has no such values.
        yield from (Problem(name, "empty_parameter", "") for name in sent if sent[name] == "")
        sent = {name: value for name, value in sent.items() if value != ""}
    match sent.get("completed"):
        case None | bool():
            pass
        case garbage:
            yield Problem("completed", "bool_parsing", _in_query(garbage))
    match sent.get("limit"):
        case int(limit) if not isinstance(limit, bool):
            if limit < (1 if api is Api.REST else 0):
                yield Problem("limit", "greater_than_equal", limit)
            elif limit > MAX_PAGE:
                yield Problem("limit", "less_than_equal", limit)
        case None:
            pass
        case garbage:
            yield Problem("limit", "int_parsing", _in_query(garbage))
    match sent.get("cursor"):
        case str(garbage):
            yield Problem("cursor", "cursor_invalid", garbage[:200])
        case Cursor(order=order) as other if not _order_error(
            sent.get("order")
        ) and order != sent.get("order", "created_desc"):
            yield Problem("cursor", "cursor_invalid", other)
    for name, error in _PARAMETERS.items():
        if name in sent and (code := error(sent[name])):
            yield Problem(name, code, _cut(_in_query(sent[name])))
    yield from (
        problem._replace(value=_cut(problem.value))
        for problem in _tags_errors(sent.get("tags", []))
    )
    for place, priority in enumerate(sent.get("priority", [])):
        if code := _priority_error(priority):
            yield Problem(f"priority.{place}", code, priority)


ORDERS: Final = ("created_desc", "created_asc", "updated_desc", "due_asc", "priority_desc")


def _order_error(value: Any) -> str | None:
    return None if value is None or value in ORDERS else "enum"


def _zone_error(value: str) -> str | None:
    return None if value in available_timezones() else "zone_invalid"


def _moment_error(value: str) -> str | None:
    error = _due_error(value)
    if error is None:
        return "moment_invalid" if len(value) == 10 else None
    return error if error == "offset_missing" else "moment_invalid"


def _search_error(value: str) -> str | None:
    length = len(value.strip(WHITE_SPACE))
    return (
        "string_too_short" if length < 1
        else "string_too_long" if length > 200
        else "string_nul" if "\0" in value
        else None
    )  # fmt: skip


_PARAMETERS: Final[dict[str, Callable[[Any], str | None]]] = {
    "has_due": lambda value: None if isinstance(value, bool) else "bool_parsing",
    "due_from": _due_error,
    "due_before": _due_error,
    "zone": _zone_error,
    "created_from": _moment_error,
    "created_before": _moment_error,
    "updated_from": _moment_error,
    "updated_before": _moment_error,
    "order": _order_error,
    "q": _search_error,
}


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problems_of_ids(ids: Any, api: Api) -> Iterator[Problem]:
    if not isinstance(ids, list):
        yield Problem("task_ids", "list_type", ids)
    elif not ids:
        yield Problem("task_ids", "too_short", ids)
    elif len(ids) > MAX_PAGE:
        # In GraphQL ids are text.
        texts = [str(task_id) for task_id in ids] if api is Api.GRAPHQL else ids
        yield Problem("task_ids", "too_long", json.dumps(texts, separators=(",", ":"))[:200])
    else:
        for place, value in enumerate(ids):
            code = _id_error(value, api)
            if code:
                yield Problem(f"task_ids.{place}", code, value)


def _id_error(value: Any, api: Api) -> str | None:
    match value:
        case str():
            return "int_type" if api is Api.REST else _text_error(value)
        case bool():
            return "int_type"
        case int():
            return None
        case float():
            return None if value.is_integer() else "int_from_float"
    return "int_type"


def _problems_of_id(text: str) -> Iterator[Problem]:
    code = _text_error(text)
    if code:
        yield Problem("task_id", code, text[:200])


def _text_error(text: str) -> str | None:
    return None if re.fullmatch(r"(0|-?[1-9][0-9]*)", text, re.ASCII) else "int_parsing"


def _is_mistyped(operation: Operation) -> bool:
    """Whether GraphQL's type system refuses the variables, which happens before validation."""
    match operation:
        case Create(members):
            return _is_mistyped_as_new(members)
        case BulkCreate(tasks):
            return not isinstance(tasks, list) or any(map(_is_mistyped_as_new, tasks))
        case BulkUpdate(ids, members):
            return _are_mistyped(members) or _are_no_ids(ids)
        case Change(members=members, version=version):
            return _are_mistyped(members) or _is_beyond_int(version)
        case Delete(version=version):
            return _is_beyond_int(version)
        case List(query) | ListTrash(query):
            limit = query.get("limit")
            return (
                not isinstance(query.get("completed"), bool | None)
                or not isinstance(query.get("has_due"), bool | None)
                or _order_error(query.get("order")) is not None
                or any(map(_priority_error, query.get("priority") or ()))
                or type(limit) not in (int, type(None))
                or _is_beyond_int(limit)
            )
        case BulkDelete(ids):
            return _are_no_ids(ids)
    return False


def _is_mistyped_as_new(members: Any) -> bool:
    # Neither may be null; only the title has to be there.
    return (
        _are_mistyped(members)
        or members.get("title") is None
        or any(members.get(name, 0) is None for name in ("completed", "priority", "tags"))
    )


def _are_no_ids(ids: Any) -> bool:
    return not isinstance(ids, list) or not all(map(_is_an_id, ids))


def _are_mistyped(members: Any) -> bool:
    if not isinstance(members, dict):
        return True
    priority, tags = members.get("priority"), members.get("tags")
    return (
        any(
            not isinstance(value, _TYPES.get(name, ())) for name, value in members.items()
            if name not in READ_ONLY
        )
        or (priority is not None and _priority_error(priority) is not None)
        or not all(isinstance(tag, str) for tag in tags or ())
    )  # fmt: skip


_TYPES: Final[dict[str, Any]] = {
    "title": str | None,
    "description": str | None,
    "completed": bool | None,
    "due": str | None,
    "priority": str | None,
    "tags": list | None,
}
"""The types of GraphQL's members. Which may not be null is no matter of types in changes."""


def _is_empty_page(operation: Operation) -> bool:
    """Whether it is a page of no tasks: GraphQL has one, for a count alone."""
    return isinstance(operation, List | ListTrash) and operation.query.get("limit") == 0


def _is_beyond_int(number: int | None) -> bool:
    return number is not None and not -MAX_INT - 1 <= number <= MAX_INT


def _is_an_id(value: Any) -> bool:
    match value:
        case bool():
            return False
        case float():
            return value.is_integer()
    return isinstance(value, str | int)


def _is_unstorable_json(operation: Operation) -> bool:
    """Whether the input has a lone surrogate, which neither API accepts as JSON."""
    match operation:
        case Create(members) | Change(members=members) | BulkUpdate(members=members):
            return _has_lone_surrogate(members)
        case BulkCreate(list(tasks)):
            return any(map(_has_lone_surrogate, tasks))
    return False


def _has_lone_surrogate(members: Any) -> bool:
    if not isinstance(members, dict):
        return False
    tags = members.get("tags")
    values = [*members.values(), *(tags if isinstance(tags, list) else ())]
    texts = [text for text in values if isinstance(text, str)]
    return any("\ud800" <= character <= "\udfff" for text in texts for character in text)
