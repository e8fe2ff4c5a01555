"""One encoder of the operations for each protocol: operation to request, response to result.

Behaviour tests, the comparison of the protocols, drills and benchmarks all use it. So it does
not depend on pytest. A decoder asserts what a response has to be consistent in by itself.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx

from tests.operations import (
    FIELDS,
    READ_ONLY,
    Api,
    BulkCreate,
    BulkDelete,
    BulkUpdate,
    Change,
    Changes,
    Create,
    Delete,
    Deleted,
    EmptyTrash,
    Get,
    List,
    ListChanges,
    ListTrash,
    Operation,
    Page,
    Restore,
    Result,
    Task,
    Updated,
)

GRAPHQL_JSON: Final = "application/graphql-response+json"


class Request(NamedTuple):
    """An HTTP request without credentials. Names of headers are in lower case."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    headers: Mapping[str, str] = {}

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{self.query}" if self.query else self.path


class Response(NamedTuple):
    """An HTTP response. Headers are found by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; ``None`` where it is empty."""
        return json.loads(self.body) if self.body else None


class ApiError(Exception):
    """The response is an error of the catalogue.

    Attributes:
        problem: the problem document of REST, or the extensions of GraphQL's first error.
        status: of the response.
    """

    def __init__(self, api: Api, problem: dict[str, Any], response: Response) -> None:
        self.api = api
        self.problem = problem
        self.status = response.status
        self.headers = response.headers
        super().__init__(json.dumps(problem))

    @property
    def fields(self) -> dict[str, str]:
        """The code of each rejected field. The names are those of REST."""
        errors = self.problem["errors"]
        return {_rest_name(self.api, error["field"]): error["code"] for error in errors}


class Surface(ABC):
    """A protocol: its encoding of the operations, and a method for each operation.

    Args:
        client: sends the requests. Its base URL is the service.
    """

    api: ClassVar[Api]

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @staticmethod
    @abstractmethod
    def encode(operation: Operation) -> Request:
        """The request for an operation."""

    @classmethod
    @abstractmethod
    def decode(cls, operation: Operation, response: Response) -> Result:
        """The result of an operation.

        Raises:
            ApiError: the response is an error.
            AssertionError: the response contradicts itself.
        """

    async def list_tasks(self, token: str, **query: Any) -> Page:
        """List: ``completed``, ``limit`` and ``cursor`` where present."""
        page: Page = await self.do(token, List(query))
        return page

    async def create_task(self, token: str, members: dict[str, Any]) -> Task:
        """Create a task."""
        task: Task = await self.do(token, Create(members))
        return task

    async def get_task(self, token: str, task_id: Any) -> Task:
        """Read one task."""
        task: Task = await self.do(token, Get(task_id))
        return task

    async def change_task(
        self, token: str, task_id: Any, changes: dict[str, Any], version: int | None
    ) -> Task:
        """Change a task, if it has this version where there is one."""
        task: Task = await self.do(token, Change(task_id, changes, version))
        return task

    async def delete_task(self, token: str, task_id: Any, version: int | None) -> None:
        """Delete one task, if it has this version where there is one."""
        await self.do(token, Delete(task_id, version))

    async def create_tasks(self, token: str, tasks: list[Any]) -> list[Task]:
        """Create many tasks."""
        created: list[Task] = await self.do(token, BulkCreate(tasks))
        return created

    async def change_tasks(
        self, token: str, task_ids: list[Any], changes: dict[str, Any]
    ) -> Updated:
        """Change many tasks in the same way."""
        updated: Updated = await self.do(token, BulkUpdate(task_ids, changes))
        return updated

    async def delete_tasks(self, token: str, task_ids: list[Any]) -> Deleted:
        """Delete many tasks."""
        deleted: Deleted = await self.do(token, BulkDelete(task_ids))
        return deleted

    async def list_changes(self, token: str, **query: Any) -> Changes:
        """List what changed: ``since`` and ``limit`` where present."""
        changes: Changes = await self.do(token, ListChanges(query))
        return changes

    async def list_trash(self, token: str, **query: Any) -> Page:
        """List the trash: ``limit`` and ``cursor`` where present."""
        page: Page = await self.do(token, ListTrash(query))
        return page

    async def restore_task(self, token: str, task_id: Any) -> Task:
        """Take one task out of the trash."""
        task: Task = await self.do(token, Restore(task_id))
        return task

    async def empty_trash(self, token: str) -> None:
        """Delete what is in the trash for good."""
        await self.do(token, EmptyTrash())

    async def do(self, token: str, operation: Operation, key: str | None = None) -> Any:
        """Do an operation as the user whose token this is; ``""`` sends no token.

        Args:
            key: the idempotency key, in the header of both protocols.

        Raises:
            ApiError: the response is an error.
        """
        request = self.encode(operation)
        headers = {**authorization(token), **request.headers, **idempotency_key(key)}
        response = await self._client.request(
            request.method, request.target, content=request.body, headers=headers
        )
        received = Response(response.status_code, response.headers, response.content)
        return self.decode(operation, received)


def authorization(token: str) -> dict[str, str]:
    """The header with a token; no header for ``""``."""
    return {"authorization": f"Bearer {token}"} if token else {}


def idempotency_key(key: str | None) -> dict[str, str]:
    """The header with a key; no header for ``None``."""
    return {} if key is None else {"idempotency-key": key}


def is_replayed(api: Api, response: Response) -> bool:
    """Whether the response is that of an earlier request with the same key."""
    if api is Api.REST:
        assert response.headers.get("idempotency-replayed") in (None, "true")
        return "idempotency-replayed" in response.headers
    return bool(response.json["extensions"].get("idempotency", {}).get("replayed"))


def _json_request(method: str, path: str, document: Any, headers: Mapping[str, str]) -> Request:
    # Escaped, because a lone surrogate has no encoding in UTF-8.
    body = json.dumps(document).encode()
    return Request(method, path, "", body, {"content-type": "application/json", **headers})


# --- REST ---------------------------------------------------------------------------------


class RestSurface(Surface):
    """The REST API."""

    api = Api.REST

    @staticmethod
    def encode(operation: Operation) -> Request:
        """The request for an operation."""
        match operation:
            case Create(members):
                return _json_request("POST", "/tasks", members, {})
            case Get(task_id):
                return Request("GET", _path(task_id))
            case List(query):
                parameters = {
                    name: _parameter(value) for name, value in query.items() if value is not None
                }
                return Request("GET", "/tasks", urlencode(parameters))
            case ListChanges(query):
                present = {name: value for name, value in query.items() if value is not None}
                return Request("GET", "/tasks/changes", urlencode(present))
            case ListTrash(query):
                parameters = {
                    name: _parameter(value) for name, value in query.items() if value is not None
                }
                return Request("GET", "/tasks/trash", urlencode(parameters))
            case Restore(task_id):
                return Request("POST", f"{_path(task_id)}/restore")
            case EmptyTrash():
                return Request("DELETE", "/tasks/trash")
            case Change(task_id, members, version, whole=False):
                return _json_request("PATCH", _path(task_id), members, _if_match(version))
            case Change(task_id, members, version):
                document = dict.fromkeys(READ_ONLY, "ignored") | members
                return _json_request("PUT", _path(task_id), document, _if_match(version))
            case Delete(task_id, version):
                return Request("DELETE", _path(task_id), headers=_if_match(version))
            case BulkCreate(tasks):
                return _json_request("POST", "/tasks/bulk-create", {"tasks": tasks}, {})
            case BulkUpdate(ids, members):
                body = {"task_ids": ids, "changes": members}
                return _json_request("POST", "/tasks/bulk-update", body, {})
            case BulkDelete(ids):
                return _json_request("POST", "/tasks/bulk-delete", {"task_ids": ids}, {})

    @classmethod
    def decode(cls, operation: Operation, response: Response) -> Result:
        """The result of an operation; see ``Surface.decode``."""
        status, headers, document = response.status, response.headers, response.json
        if status >= 400:
            assert document["status"] == status, document
            raise ApiError(cls.api, document, response)
        match operation:
            case List():
                tasks = [Task(**each) for each in document]
                return Page(tasks, _next_cursor(headers), sync_token=headers["sync-token"])
            case ListChanges():
                tasks = [Task(**each) for each in document["changes"]]
                return Changes(tasks, document["token"], document["has_more"])
            case ListTrash():
                return Page([Task(**each) for each in document], _next_cursor(headers))
            case Delete() | EmptyTrash():
                assert (status, document) == (204, None)
                return None
            case BulkCreate():
                assert status == 201
                return [Task(**each) for each in document]
            case BulkUpdate():
                updated = [Task(**each) for each in document.pop("updated")]
                return Updated(updated, **document)
            case BulkDelete():
                return Deleted(**document)
        task = Task(**document)
        assert headers["etag"] == f'"{task.version}"'
        if isinstance(operation, Create):
            assert (status, headers["location"]) == (201, f"tasks/{task.id}")
        return task


def _path(task_id: Any) -> str:
    return f"/tasks/{quote(str(task_id), safe='')}"


def _parameter(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"if-match": f'"{version}"'}


def _next_cursor(headers: Mapping[str, str]) -> str | None:
    link = headers.get("link")
    if link is None:
        return None
    target, _, parameters = link.removeprefix("<").partition(">")
    assert parameters == '; rel="next"', link
    [cursor] = parse_qs(urlsplit(target).query)["cursor"]
    return cursor


# --- GraphQL ------------------------------------------------------------------------------


class GraphQLSurface(Surface):
    """The GraphQL API. Results are in the spelling of REST, so that tests can compare them."""

    api = Api.GRAPHQL

    async def list_tasks(self, token: str, **query: Any) -> Page:
        """List; without ``limit`` as many as REST does, which has another default."""
        return await super().list_tasks(token, **{"limit": 1000, **query})

    async def get_task(self, token: str, task_id: Any) -> Task:
        """Read one task. A response of null is the error that REST answers."""
        task: Task | None = await self.do(token, Get(task_id))
        if task is None:
            detail = f"Task with ID {task_id} not found"
            problem = {"type": "not_found_error", "status": 404, "detail": detail}
            raise ApiError(self.api, problem, Response(200, {}, b""))
        return task

    @staticmethod
    def encode(operation: Operation) -> Request:
        """The request for an operation."""
        is_detailed = isinstance(operation, List | ListTrash) and operation.detailed
        documents = _DETAILED if is_detailed else _DOCUMENTS
        document = documents[type(operation)]
        body = {"query": document, "variables": _variables(operation)}
        return _json_request("POST", "/graphql", body, {"accept": GRAPHQL_JSON})

    @classmethod
    def decode(cls, operation: Operation, response: Response) -> Result:
        """The result of an operation; see ``Surface.decode``."""
        document = response.json
        if "errors" in document:
            raise cls._error(document, response)
        assert response.status == 200
        data = document["data"]["result"]
        match operation:
            case List() | ListTrash():
                return _page(data)
            case ListChanges():
                tasks = [_task(node) for node in data["changes"]]
                return Changes(tasks, data["token"], data["hasMore"])
            case EmptyTrash():
                amount: int = data
                return amount
            case BulkCreate():
                return [_task(each) for each in data]
            case BulkUpdate():
                updated = [_task(each) for each in data["updated"]]
                return Updated(updated, [int(each) for each in data["notFound"]])
            case BulkDelete():
                return Deleted(*([int(each) for each in data[n]] for n in ("deleted", "notFound")))
        return data and _task(data)

    @classmethod
    def _error(cls, document: dict[str, Any], response: Response) -> ApiError:
        error, *others = document["errors"]
        problem = error["extensions"]
        assert not (document.get("data") or {}).get("result"), document
        # A response with data, even null, means that the operation was executed.
        assert response.status == (200 if "data" in document else problem["status"]), document
        if problem["code"] == "GRAPHQL_VALIDATION_FAILED":
            assert "data" not in document
        else:
            assert not others, document
            assert problem["code"] == problem["type"].upper()
            assert error["message"] == message_of(problem)
        return ApiError(cls.api, problem, response)


def message_of(problem: dict[str, Any]) -> str:
    """The message of a GraphQL error with these extensions, as a person may see it."""
    lines = [
        f"{error['field']}: {error['message']}" if error["field"] else error["message"]
        for error in problem.get("errors", ())[:3]
    ]
    return "; ".join(lines) or problem["detail"]


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


_NAMES: Final = {_camel(name): name for name in FIELDS}
_TASK: Final = f"{{ {' '.join(_NAMES)} }}"

_LIST: Final = """
query ($first: Int, $after: String, $filter: TaskFilter, $orderBy: TaskOrder) {
  result: tasks(first: $first, after: $after, filter: $filter, orderBy: $orderBy) { %s }
}"""
_TRASH: Final = """
query ($first: Int, $after: String) {
  result: trash(first: $first, after: $after) { %s }
}"""
_PAGE: Final = f"nodes {_TASK} pageInfo {{ hasNextPage endCursor }}"
_DETAILED_PAGE: Final = (
    f"nodes {_TASK} edges {{ cursor node {_TASK} }} totalCount"
    " pageInfo { hasNextPage hasPreviousPage startCursor endCursor } syncToken"
)
_CHANGES: Final = """
query ($since: String, $first: Int) {
  result: taskChanges(since: $since, first: $first) { changes %s token hasMore }
}"""
_DETAILED: Final[dict[type[Operation], str]] = {
    List: _LIST % _DETAILED_PAGE,
    ListTrash: _TRASH % _DETAILED_PAGE,
}
_DOCUMENTS: Final[dict[type[Operation], str]] = {
    Create: f"mutation ($input: CreateTaskInput!) {{ result: createTask(input: $input) {_TASK} }}",
    Get: f"query ($id: ID!) {{ result: task(id: $id) {_TASK} }}",
    List: _LIST % f"{_PAGE} syncToken",
    ListChanges: _CHANGES % _TASK,
    ListTrash: _TRASH % f"{_PAGE} syncToken",
    Restore: f"mutation ($id: ID!) {{ result: restoreTask(id: $id) {_TASK} }}",
    EmptyTrash: "mutation { result: emptyTrash }",
    Change: f"""
mutation ($id: ID!, $input: UpdateTaskInput!, $expectedVersion: Int) {{
  result: updateTask(id: $id, input: $input, expectedVersion: $expectedVersion) {_TASK}
}}""",
    Delete: f"""
mutation ($id: ID!, $expectedVersion: Int) {{
  result: deleteTask(id: $id, expectedVersion: $expectedVersion) {_TASK}
}}""",
    BulkCreate: f"""
mutation ($inputs: [CreateTaskInput!]!) {{ result: createTasks(inputs: $inputs) {_TASK} }}""",
    BulkUpdate: f"""
mutation ($ids: [ID!]!, $input: UpdateTaskInput!) {{
  result: updateTasks(ids: $ids, input: $input) {{ updated {_TASK} notFound }}
}}""",
    BulkDelete: "mutation ($ids: [ID!]!) { result: deleteTasks(ids: $ids) { deleted notFound } }",
}


def _variables(operation: Operation) -> dict[str, Any]:
    match operation:
        case Create(members):
            return {"input": _members(members)}
        case Get(task_id) | Restore(task_id):
            return {"id": task_id}
        case ListChanges(query):
            names = {"limit": "first", "since": "since"}
            return {names[name]: value for name, value in query.items()}
        case EmptyTrash():
            return {}
        case List(query) | ListTrash(query):
            names = {"limit": "first", "cursor": "after", "order": "orderBy"}
            variables = {name: _enum(query[rest]) if rest == "order" else query[rest]
                         for rest, name in names.items() if rest in query}  # fmt: skip
            members = {_camel(name): value for name, value in query.items() if name not in names}
            if isinstance(priorities := members.get("priority"), list):
                members["priority"] = [_enum(each) for each in priorities]
            return variables | ({"filter": members} if members else {})
        case Change(task_id, members, version):
            return {"id": task_id, "input": _members(members), "expectedVersion": version}
        case Delete(task_id, version):
            expected = {} if version is None else {"expectedVersion": version}
            return {"id": task_id, **expected}
        case BulkCreate(tasks):
            is_list = isinstance(tasks, list)
            return {"inputs": [_members(each) for each in tasks] if is_list else tasks}
        case BulkUpdate(ids, members):
            return {"ids": ids, "input": _members(members)}
        case BulkDelete(ids):
            return {"ids": ids}


def _members(members: Any) -> Any:
    if isinstance(members, dict) and "priority" in members:
        return members | {"priority": _enum(members["priority"])}
    return members


def _enum(value: Any) -> Any:
    """A member of an enum: its name is in upper case, and in no other."""
    return value.swapcase() if isinstance(value, str) else value


def _task(node: dict[str, Any]) -> Task:
    members = {_NAMES[name]: value for name, value in node.items()}
    return Task(**members | {"id": int(node["id"]), "priority": node["priority"].lower()})


def _page(data: dict[str, Any]) -> Page:
    info = data["pageInfo"]
    tasks = [_task(node) for node in data["nodes"]]
    next_cursor = info["endCursor"] if info["hasNextPage"] else None
    page = Page(tasks, next_cursor, sync_token=data["syncToken"])
    if "edges" not in data:
        return page
    assert data["nodes"] == [edge["node"] for edge in data["edges"]]
    cursors = [edge["cursor"] for edge in data["edges"]]
    ends = (cursors[0], cursors[-1]) if cursors else (None, None)
    assert (info["startCursor"], info["endCursor"]) == ends
    return page._replace(
        cursors=cursors, total=data["totalCount"], has_previous=info["hasPreviousPage"]
    )


_REST_NAMES: Final = {
    "first": "limit",
    "after": "cursor",
    "orderBy": "order",
    "ids": "task_ids",
    "inputs": "tasks",
    "id": "task_id",
}


def _rest_name(api: Api, field: str) -> str:
    if api is Api.REST:
        return field
    if field.startswith("filter."):
        return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", field[len("filter.") :])
    name, dot, place = field.partition(".")
    return _REST_NAMES.get(field) or _REST_NAMES.get(name, name) + dot + place


SURFACES: Final[dict[Api, type[Surface]]] = {Api.REST: RestSurface, Api.GRAPHQL: GraphQLSurface}
