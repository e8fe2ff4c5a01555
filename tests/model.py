"""The contract as a model: one person's tasks in plain Python, and what each door has to answer.

Knows nothing of the code. Ids are the model's own, the k-th task that a person made has id k, and
a cursor is the id of the task that it stands after; whoever compares translates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

MAX_ID: Final = 2**63 - 1
MAX_PAGE: Final = 1000
MAX_INT: Final = 2**31 - 1
"""The largest of GraphQL's ``Int``."""

# Unicode's property White_Space; not U+001C to U+001F, U+180E, U+200B or U+FEFF.
WHITE_SPACE: Final = "".join(
    map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029])
) + "\u202f\u205f\u3000"  # fmt: skip

READ_ONLY: Final = {"id", "user_id", "version", "created_at", "updated_at"}

STRANGERS: Final = (10**6 + 1, 10**6 + 2)
"""The ids of someone else's tasks."""

LONG_AGO: Final = 0
"""Someone else's cursor, at a position before anything of yours."""


class Door(StrEnum):
    """Where an operation is asked for."""

    REST = "rest"
    GRAPHQL = "graphql"


class Kind(StrEnum):
    """What a request is paid with."""

    READ = "read"
    WRITE = "write"


# --- What is asked ------------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    """Add a task with these members."""

    members: Any


@dataclass(frozen=True)
class Get:
    """Read one task."""

    id: str


@dataclass(frozen=True)
class List:
    """List tasks: ``completed``, ``limit`` and ``cursor`` where given; ``None`` says nothing.

    ``elsewhere``: at the other door than usual, as everyone may.
    """

    query: dict[str, Any]
    elsewhere: bool = False


@dataclass(frozen=True)
class Change:
    """Change these members; ``whole``: as frontends do it, with the rest of the task besides."""

    id: str
    members: Any
    version: int | None = None
    whole: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete one task."""

    id: str
    version: int | None = None


@dataclass(frozen=True)
class BulkDelete:
    """Delete many."""

    ids: Any


Operation = Create | Get | List | Change | Delete | BulkDelete


# --- What is answered ---------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task, without what the server says of it (its owner and its times)."""

    id: int
    title: str
    description: str | None
    completed: bool
    version: int = 1


class Page(NamedTuple):
    """A part of the list. The last two are GraphQL's alone."""

    tasks: list[Task]
    cursor: int | None
    total: int | None = None
    is_continued: bool | None = None


class Deleted(NamedTuple):
    """What a bulk deletion did."""

    deleted: list[int]
    not_found: list[int]


class Done(NamedTuple):
    """It was done, with this to show for it."""

    value: Task | Page | Deleted | None


class Problem(NamedTuple):
    """One thing wrong with an input."""

    field: str
    code: str
    value: Any


class Refused(NamedTuple):
    """It was not done."""

    type: str
    status: int
    detail: str
    problems: list[Problem]


class Unreadable(NamedTuple):
    """GraphQL's own types refuse the variables: in its own words, but as a validation error."""

    type: str = "validation_error"
    status: int = 400


Answer = Done | Refused | Unreadable


class Expected(NamedTuple):
    """What a door has to answer, and what that has to cost: one of this kind."""

    answer: Answer
    paid_with: Kind


class Model:
    """One person's tasks."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.made = 0
        self.cursors: list[int] = [LONG_AGO]
        self.next_cursor: int | None = None

    def inherit(self, number: int) -> list[Task]:
        """So many tasks come from elsewhere: every second is described, every third is done."""
        made = [
            Task(self.made + n, f"heirloom {n % 5}", "an heirloom" if n % 2 else None, n % 3 == 0)
            for n in range(1, number + 1)
        ]
        self.tasks |= {task.id: task for task in made}
        self.made += number
        return made

    def do(self, asked: Operation) -> dict[Door, Expected]:
        """What each door answers. What they store, or don't, is the same."""
        if _is_unstorable_json(asked):
            malformed = _invalid([Problem("", "json_invalid", None)])
            answers: dict[Door, Answer] = dict.fromkeys(Door, malformed)
        else:
            at_rest = self._answer_rest(asked)
            answers = {Door.REST: at_rest, Door.GRAPHQL: self._answer_graphql(asked, at_rest)}
        return {
            door: Expected(answer, _kind(asked, door, answer)) for door, answer in answers.items()
        }

    def _answer_rest(self, asked: Operation) -> Answer:
        problems = [*_problems(asked, Door.REST)]
        return _invalid(problems) if problems else self._perform(asked)

    def _answer_graphql(self, asked: Operation, at_rest: Answer) -> Answer:
        """What GraphQL answers where REST answers that: where they differ, it stands here."""
        if _is_unreadable(asked):
            assert isinstance(at_rest, Refused), "a door must not store what the other refuses"
            return Unreadable()
        problems = [*_problems(asked, Door.GRAPHQL)]
        assert bool(problems) == (isinstance(at_rest, Refused) and at_rest.status == 400)
        if problems:
            return _invalid(problems)
        match asked, at_rest:
            case Get(), Refused(status=404):
                return Done(None)
            case Delete(), Done():
                return Done(self._deleted)
            case List(query), Done():
                page = self._list(query, default_limit=50)
                is_continued = query.get("cursor") is not None
                return Done(page._replace(total=self._count(query), is_continued=is_continued))
        return at_rest

    def _perform(self, asked: Operation) -> Answer:
        match asked:
            case Create(members):
                self.made += 1
                task = Task(
                    self.made, **({"description": None, "completed": False} | _kept(members))
                )
                return self._store(task)
            case List(query):
                page = self._list(query, default_limit=MAX_PAGE)
                self.next_cursor = page.cursor
                if page.cursor is not None and page.cursor not in self.cursors:
                    self.cursors.append(page.cursor)
                return Done(page)
            case BulkDelete(ids):
                return Done(self._delete_many([*dict.fromkeys(int(task_id) for task_id in ids)]))
            case _:
                return self._perform_on_one(asked)

    def _perform_on_one(self, asked: Get | Change | Delete) -> Answer:
        task = self.tasks.get(int(asked.id))
        if task is None:
            return Refused("not_found_error", 404, f"Task with ID {asked.id[:200]} not found", [])
        match asked:
            case Change(version=int(version)) | Delete(version=int(version)) if (
                version != task.version
            ):
                detail = f"The task is at version {task.version}"
                return Refused("precondition_failed", 412, detail, [])
            case Change(members=members):
                changed = replace(task, **_kept(members))
                return self._store(
                    task if changed == task else replace(changed, version=task.version + 1)
                )
            case Delete():
                self._deleted = self.tasks.pop(task.id)
                return Done(None)
        return Done(task)

    def _store(self, task: Task) -> Answer:
        self.tasks[task.id] = task
        return Done(task)

    def _list(self, query: dict[str, Any], default_limit: int) -> Page:
        limit = default_limit if query.get("limit") is None else query["limit"]
        after = MAX_ID if query.get("cursor") is None else query["cursor"]
        found = [task for task in self._wanted(query) if task.id < after]
        more = len(found) > limit
        return Page(found[:limit], found[limit - 1].id if more else None)

    def _count(self, query: dict[str, Any]) -> int:
        return len(self._wanted(query))

    def _wanted(self, query: dict[str, Any]) -> list[Task]:
        wanted = {None: (True, False)}.get(query.get("completed"), (query.get("completed"),))
        return [
            task for _, task in sorted(self.tasks.items(), reverse=True) if task.completed in wanted
        ]

    def _delete_many(self, ids: list[int]) -> Deleted:
        deleted = [task_id for task_id in ids if self.tasks.pop(task_id, None)]
        return Deleted(deleted, [task_id for task_id in ids if task_id not in deleted])


def _kind(asked: Operation, door: Door, answer: Answer) -> Kind:
    """A document that cannot be run is one read, whatever it would have written."""
    malformed = Problem("", "json_invalid", None)
    match answer:
        case _ if isinstance(asked, Get | List):
            return Kind.READ
        case Unreadable():
            return Kind.READ
        case Refused(problems=[problem]) if problem == malformed and door is Door.GRAPHQL:
            return Kind.READ
    return Kind.WRITE


# --- What is stored of what was sent ------------------------------------------------------


def _kept(members: dict[str, Any]) -> dict[str, Any]:
    return {name: _KEPT[name](value) for name, value in members.items() if name in _KEPT}


_KEPT: Final = {
    "title": lambda title: title.strip(WHITE_SPACE),
    "description": lambda text: text if text and text.strip(WHITE_SPACE) else None,
    "completed": lambda completed: completed,
}


# --- What is refused ----------------------------------------------------------------------

_SPELLING: Final = {
    "task_id": "id",
    "task_ids": "ids",
    "limit": "first",
    "cursor": "after",
    "completed": "filter.completed",
}
"""GraphQL's names for what ids and lists are asked with."""


def _invalid(problems: list[Problem]) -> Refused:
    detail = "One or more validation errors occurred"
    return Refused("validation_error", 400, detail, sorted(problems, key=lambda it: it.field))


def _problems(asked: Operation, door: Door) -> Iterator[Problem]:
    """What is wrong with an input: its body, and only if that is right, its id."""
    match asked:
        case Create(members):
            yield from _problems_of_members(members, needed=["title"])
        case List(query):
            yield from _spelled(_problems_of_query(query, door), door)
        case BulkDelete(ids):
            yield from _spelled(_problems_of_ids(ids, door), door)
        case Change(task_id, members):
            wrong = [*_problems_of_members(members, needed=[])]
            yield from wrong or _spelled(_problems_of_id(task_id), door)
        case Get(task_id) | Delete(task_id):
            yield from _spelled(_problems_of_id(task_id), door)


def _spelled(problems: Iterator[Problem], door: Door) -> Iterator[Problem]:
    for problem in problems:
        first, *rest = problem.field.split(".")
        if door is Door.GRAPHQL:
            first = _SPELLING[first]
        yield problem._replace(field=".".join([first, *rest]))


def _problems_of_members(members: Any, needed: list[str]) -> Iterator[Problem]:
    if not isinstance(members, dict):
        yield Problem("", "model_type", members)
        return
    for name in needed:
        if name not in members:
            yield Problem(name, "missing", None)
    for name, value in members.items():
        code = _MEMBERS[name](value) if name in _MEMBERS else "extra_forbidden"
        if code and name not in READ_ONLY:
            yield Problem(name, code, value[:200] if isinstance(value, str) else value)


def _wrong_title(value: Any) -> str | None:
    if not isinstance(value, str):
        return "string_type"
    length = len(value.strip(WHITE_SPACE))
    return (
        "string_too_short" if length < 1
        else "string_too_long" if length > 200
        else "string_nul" if "\0" in value
        else None
    )  # fmt: skip


def _wrong_description(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "string_type"
    return "string_too_long" if len(value) > 1000 else "string_nul" if "\0" in value else None


def _wrong_completed(value: Any) -> str | None:
    return None if isinstance(value, bool) else "bool_type"


_MEMBERS: Final = {
    "title": _wrong_title,
    "description": _wrong_description,
    "completed": _wrong_completed,
}


def _problems_of_query(query: dict[str, Any], door: Door) -> Iterator[Problem]:
    said = {name: value for name, value in query.items() if value is not None}
    if door is Door.REST and "" in said.values():
        # Decided before anything else is looked at; GraphQL's values have no such form.
        yield from (Problem(name, "empty_parameter", "") for name in said if said[name] == "")
        return
    match said.get("completed"):
        case None | bool():
            pass
        case garbage:
            yield Problem("completed", "bool_parsing", _in_query(garbage))
    match said.get("limit"):
        case int(limit) if not isinstance(limit, bool):
            if limit < 1:
                yield Problem("limit", "greater_than_equal", limit)
            elif limit > MAX_PAGE:
                yield Problem("limit", "less_than_equal", limit)
        case None:
            pass
        case garbage:
            yield Problem("limit", "int_parsing", _in_query(garbage))
    match said.get("cursor"):
        case str(garbage):
            yield Problem("cursor", "cursor_invalid", garbage[:200])


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problems_of_ids(ids: Any, door: Door) -> Iterator[Problem]:
    if not isinstance(ids, list):
        yield Problem("task_ids", "list_type", ids)
    elif not ids:
        yield Problem("task_ids", "too_short", ids)
    elif len(ids) > MAX_PAGE:
        # In GraphQL ids are text.
        sent = [str(task_id) for task_id in ids] if door is Door.GRAPHQL else ids
        yield Problem("task_ids", "too_long", json.dumps(sent, separators=(",", ":"))[:200])
    else:
        for place, value in enumerate(ids):
            code = _wrong_id(value, door)
            if code:
                yield Problem(f"task_ids.{place}", code, value)


def _wrong_id(value: Any, door: Door) -> str | None:
    match value:
        case str():
            return "int_type" if door is Door.REST else _wrong_text(value)
        case bool():
            return "int_type"
        case int():
            return None
        case float():
            return None if value.is_integer() else "int_from_float"
    return "int_type"


def _problems_of_id(text: str) -> Iterator[Problem]:
    code = _wrong_text(text)
    if code:
        yield Problem("task_id", code, text[:200])


def _wrong_text(text: str) -> str | None:
    return None if re.fullmatch(r"(0|-?[1-9][0-9]*)", text, re.ASCII) else "int_parsing"


def _is_unreadable(asked: Operation) -> bool:
    """Whether GraphQL's types refuse it, before validation is even begun."""
    match asked:
        case Create(members):
            return _are_unreadable(members) or members.get("title") is None
        case Change(members=members, version=version):
            return _are_unreadable(members) or _is_beyond_int(version)
        case Delete(version=version):
            return _is_beyond_int(version)
        case List(query):
            limit = query.get("limit")
            return (
                not isinstance(query.get("completed"), bool | None)
                or type(limit) not in (int, type(None))
                or _is_beyond_int(limit)
            )
        case BulkDelete(ids):
            return not isinstance(ids, list) or not all(map(_is_an_id, ids))
    return False


def _are_unreadable(members: Any) -> bool:
    types = {"title": str | None, "description": str | None, "completed": bool | None}
    return not isinstance(members, dict) or any(
        not isinstance(value, types.get(name, ())) for name, value in members.items()
        if name not in READ_ONLY
    )  # fmt: skip


def _is_beyond_int(number: int | None) -> bool:
    return number is not None and not -MAX_INT - 1 <= number <= MAX_INT


def _is_an_id(value: Any) -> bool:
    match value:
        case bool():
            return False
        case float():
            return value.is_integer()
    return isinstance(value, str | int)


def _is_unstorable_json(asked: Operation) -> bool:
    """Whether a lone surrogate is in it: that is no JSON to either door."""
    match asked:
        case Create(dict(members)) | Change(members=dict(members)):
            texts = [text for text in members.values() if isinstance(text, str)]
            return any("\ud800" <= character <= "\udfff" for text in texts for character in text)
    return False
