"""How the model's operations are asked for at each door, and what comes back as the model says it.

Knows the wire of both doors; judges only what an answer has to be consistent in by itself.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from tests import model
from tests.model import Answer, Deleted, Done, Door, Operation, Page, Problem, Refused, Unreadable


class Sent(NamedTuple):
    """A request, but for who sends it."""

    method: str
    path: str
    query: str = ""
    body: str | None = None
    headers: Mapping[str, str] = {}


class Received(NamedTuple):
    """A response, with the JSON of its body."""

    status: int
    headers: Mapping[str, str]
    json: Any


@dataclass
class Life:
    """One person: their own names for what the model numbers, and what they have seen.

    Attributes:
        real: the ids of their tasks, by the model's.
        ours: the model's ids, by the real ones.
        cursors: their cursors, by the model's id of the task that each stands after.
        times: of the tasks in the latest answer, by the model's id: made, and last changed.
        messages: of the errors in the latest answer, by code.
        spent: how much of each budget.
    """

    user_id: str
    token: str
    real: dict[int, int] = field(default_factory=dict)
    ours: dict[int, int] = field(default_factory=dict)
    cursors: dict[int, str] = field(default_factory=dict)
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    made: int = 0

    def learn(self, ours: int, real: int) -> None:
        """There is this task."""
        self.real[ours] = real
        self.ours[real] = ours

    def learn_cursor(self, after: int, text: str) -> None:
        """A cursor was answered; a place has one cursor, whichever door tells it."""
        assert self.cursors.setdefault(after, text) == text

    def id_to_send(self, value: Any) -> Any:
        """An id as this person has to write it, if it is one of the model's."""
        if isinstance(value, str):
            is_canonical = re.fullmatch("[1-9][0-9]{,8}", value)
            return str(self.real.get(int(value), value)) if is_canonical else value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return type(value)(self.real.get(value, value)) if is_number else value

    def cursor_to_send(self, value: Any) -> Any:
        """A cursor as this person got it, or garbage as it is."""
        return self.cursors[value] if isinstance(value, int) else value

    def ids_of(self, real: list[Any]) -> list[int]:
        """Answered ids as the model writes them."""
        return [self.ours.get(int(each), int(each)) for each in real]

    def sentence_of(self, text: str) -> str:
        """An answered sentence as the model writes it."""
        named = re.fullmatch("Task with ID ([0-9]{1,18}) not found", text)
        return text.replace(named[1], str(self.ids_of([named[1]])[0])) if named else text


# --- REST ---------------------------------------------------------------------------------


def ask_rest(asked: Operation, life: Life) -> Sent:
    """The operation as REST takes it."""
    match asked:
        case model.Create(members):
            return Sent("POST", "/tasks", body=json.dumps(members))
        case model.Get(task_id):
            return Sent("GET", _path(task_id, life))
        case model.List(query):
            said = {name: value for name, value in query.items() if value is not None}
            if "cursor" in said:
                said["cursor"] = life.cursor_to_send(said["cursor"])
            return Sent("GET", "/tasks", urlencode(list(map(_parameter, said.items()))))
        case model.Change(task_id, members, version, whole):
            sent = READ_ONLY | members if whole else members
            method = "PUT" if whole else "PATCH"
            return Sent(
                method, _path(task_id, life), body=json.dumps(sent), headers=_if_match(version)
            )
        case model.Delete(task_id, version):
            return Sent("DELETE", _path(task_id, life), headers=_if_match(version))
        case model.BulkDelete(ids):
            return Sent(
                "POST", "/tasks/bulk-delete", body=json.dumps({"task_ids": _ids(ids, life)})
            )


READ_ONLY: Final = dict.fromkeys(sorted(model.READ_ONLY), "not read")
"""What a whole task has besides, and could be anything."""


def _path(task_id: str, life: Life) -> str:
    return f"/tasks/{quote(life.id_to_send(task_id), safe='')}"


def _parameter(parameter: tuple[str, Any]) -> tuple[str, str]:
    name, value = parameter
    return name, str(value).lower() if isinstance(value, bool) else str(value)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"if-match": f'"{version}"'}


def _ids(ids: Any, life: Life) -> Any:
    return list(map(life.id_to_send, ids)) if isinstance(ids, list) else ids


def read_rest(asked: Operation, received: Received, life: Life) -> Answer:
    """What REST answered."""
    status, headers, document = received
    if status >= 400:
        assert document["status"] == status
        return _refused(document, life)
    match asked:
        case model.Create():
            assert (status, headers["location"]) == (201, f"/tasks/{document['id']}")
            return Done(_with_etag(_new_task(document, life), headers))
        case model.List():
            tasks = [_task(each, life) for each in document]
            return Done(Page(tasks, _next_cursor(tasks, headers, life)))
        case model.Delete():
            assert (status, document) == (204, None)
            return Done(None)
        case model.BulkDelete():
            return Done(Deleted(*map(life.ids_of, (document["deleted"], document["not_found"]))))
    return Done(_with_etag(_task(document, life), headers))


def _with_etag(task: model.Task, headers: Mapping[str, str]) -> model.Task:
    assert headers["etag"] == f'"{task.version}"'
    return task


def _next_cursor(tasks: list[model.Task], headers: Mapping[str, str], life: Life) -> int | None:
    link = re.fullmatch('<(.*)>; rel="next"', headers.get("link", ""))
    if not link:
        return None
    life.learn_cursor(tasks[-1].id, parse_qs(urlsplit(link[1]).query)["cursor"][0])
    return tasks[-1].id


# --- GraphQL ------------------------------------------------------------------------------

_TASK: Final = "{ id userId title description completed version createdAt updatedAt }"

_DOCUMENTS: Final = {
    model.Create: f"""mutation ($input: CreateTaskInput!) {{
        answer: createTask(input: $input) {_TASK} }}""",
    model.Get: f"""query ($id: ID!) {{
        answer: task(id: $id) {_TASK} }}""",
    model.List: f"""query ($first: Int, $after: String, $filter: TaskFilter) {{
        answer: tasks(first: $first, after: $after, filter: $filter) {{
            nodes {_TASK} edges {{ cursor node {_TASK} }} totalCount
            pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}""",
    model.Change: f"""mutation ($id: ID!, $input: UpdateTaskInput!, $version: Int) {{
        answer: updateTask(id: $id, input: $input, expectedVersion: $version) {_TASK} }}""",
    model.Delete: f"""mutation ($id: ID!, $version: Int) {{
        answer: deleteTask(id: $id, expectedVersion: $version) {_TASK} }}""",
    model.BulkDelete: """mutation ($ids: [ID!]!) {
        answer: deleteTasks(ids: $ids) { deleted notFound } }""",
}


def ask_graphql(asked: Operation, life: Life) -> Sent:
    """The operation as GraphQL takes it."""
    body = {"query": _DOCUMENTS[type(asked)], "variables": _variables(asked, life)}
    return Sent(
        "POST",
        "/graphql",
        body=json.dumps(body),
        headers={"accept": "application/graphql-response+json"},
    )


def _variables(asked: Operation, life: Life) -> dict[str, Any]:
    match asked:
        case model.Create(members):
            return {"input": members}
        case model.Get(task_id):
            return {"id": life.id_to_send(task_id)}
        case model.List(query):
            said = {"first": query["limit"]} if "limit" in query else {}
            if "cursor" in query:
                said["after"] = life.cursor_to_send(query["cursor"])
            if "completed" in query:
                said["filter"] = {"completed": query["completed"]}
            return said
        case model.Change(task_id, members, version):
            return {"id": life.id_to_send(task_id), "input": members, "version": version}
        case model.Delete(task_id, version):
            at_version = {} if version is None else {"version": version}
            return {"id": life.id_to_send(task_id), **at_version}
        case model.BulkDelete(ids):
            return {"ids": _ids(ids, life)}


def read_graphql(asked: Operation, received: Received, life: Life) -> Answer:
    """What GraphQL answered."""
    status, _, document = received
    data = (document.get("data") or {}).get("answer")
    if "errors" in document:
        assert data is None
        return _refused_by_graphql(document, status, life)
    assert status == 200
    match asked:
        case model.Create():
            return Done(_new_task(_as_in_rest(data), life))
        case model.List():
            return Done(_page(data, life))
        case model.BulkDelete():
            return Done(Deleted(*map(life.ids_of, (data["deleted"], data["notFound"]))))
    return Done(data and _task(_as_in_rest(data), life))


def _refused_by_graphql(document: Any, status: int, life: Life) -> Refused | Unreadable:
    error = document["errors"][0]
    problem = error["extensions"]
    # Where there is data, null as it may be, the document was run.
    assert status == (200 if "data" in document else problem["status"])
    if problem["code"] == "GRAPHQL_VALIDATION_FAILED":
        assert "data" not in document
        return Unreadable(problem["type"], problem["status"])
    assert len(document["errors"]) == 1
    assert problem["code"] == problem["type"].upper()
    assert problem["detail"] == error["message"]
    return _refused(problem, life)


def _page(data: dict[str, Any], life: Life) -> Page:
    assert data["nodes"] == [edge["node"] for edge in data["edges"]]
    tasks = [_task(_as_in_rest(node), life) for node in data["nodes"]]
    cursors = [edge["cursor"] for edge in data["edges"]]
    info = data["pageInfo"]
    ends = (cursors[0], cursors[-1]) if cursors else (None, None)
    assert (info["startCursor"], info["endCursor"]) == ends
    for task, cursor in zip(tasks, cursors, strict=True):
        life.learn_cursor(task.id, cursor)
    cursor = tasks[-1].id if info["hasNextPage"] else None
    return Page(tasks, cursor, data["totalCount"], info["hasPreviousPage"])


def _as_in_rest(data: dict[str, Any]) -> dict[str, Any]:
    names = {"userId": "user_id", "createdAt": "created_at", "updatedAt": "updated_at"}
    document = {names.get(name, name): value for name, value in data.items()}
    return document | {"id": int(data["id"])}


# --- Both ---------------------------------------------------------------------------------


def _new_task(document: dict[str, Any], life: Life) -> model.Task:
    life.made += 1
    life.learn(life.made, document["id"])
    return _task(document, life)


def _task(document: dict[str, Any], life: Life) -> model.Task:
    members = dict(document)
    [members["id"]] = life.ids_of([members["id"]])
    assert members.pop("user_id") == life.user_id
    life.times[members["id"]] = (members.pop("created_at"), members.pop("updated_at"))
    return model.Task(**members)


def _refused(problem: dict[str, Any], life: Life) -> Refused:
    errors = problem.get("errors", [])
    life.messages = {error["code"]: error["message"] for error in errors}
    problems = [Problem(error["field"], error["code"], error["value"]) for error in errors]
    return Refused(
        problem["type"],
        problem["status"],
        life.sentence_of(problem["detail"]),
        sorted(problems, key=lambda it: it.field),
    )


ASK: Final = {Door.REST: ask_rest, Door.GRAPHQL: ask_graphql}
READ: Final = {Door.REST: read_rest, Door.GRAPHQL: read_graphql}
