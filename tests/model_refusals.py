"""What the contract refuses, and why; part of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Final
from zoneinfo import available_timezones

from tests.model_results import (
    MAX_INT,
    MAX_NEW,
    MAX_PAGE,
    PRIORITIES,
    WHITE_SPACE,
    Cursor,
    Failure,
    Problem,
)
from tests.model_values import (
    canonical_due,
)
from tests.operations import (
    READ_ONLY,
    Api,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    Change,
    Create,
    Delete,
    Get,
    List,
    ListTrash,
    Operation,
    Restore,
)

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


def invalid(problems: list[Problem]) -> Failure:
    detail = "One or more validation errors occurred"
    return Failure("validation_error", 400, detail, sorted(problems, key=lambda it: it.field))


def problems_of(operation: Operation, api: Api) -> Iterator[Problem]:
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
        code = MEMBERS[name](value) if name in MEMBERS else "extra_forbidden"
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
        due = canonical_due(text)
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


MEMBERS: Final[dict[str, Callable[[Any], str | None]]] = {
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


def is_mistyped(operation: Operation) -> bool:
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


def is_empty_page(operation: Operation) -> bool:
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


def is_unstorable_json(operation: Operation) -> bool:
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
