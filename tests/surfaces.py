"""The doors, with the same verbs: a behaviour that is tested on a surface holds for each.

Values come back as the contract spells them in REST, so that tests can compare them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import httpx


class Refused(Exception):
    """The door answered with an error of the catalogue."""

    def __init__(self, problem: dict[str, Any], headers: httpx.Headers) -> None:
        self.problem = problem
        self.headers = headers
        super().__init__(json.dumps(problem))

    @property
    def fields(self) -> dict[str, str]:
        """Each field that was refused, with the code of what was wrong."""
        return {error["field"]: error["code"] for error in self.problem["errors"]}


@dataclass(frozen=True, slots=True)
class Task:
    """A task as a client sees it."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: str
    updated_at: str


class Listed(NamedTuple):
    """A part of the list, and the cursor of the next part."""

    tasks: list[Task]
    next_cursor: str | None

    @property
    def titles(self) -> list[str]:
        """What the tasks say, in order."""
        return [task.title for task in self.tasks]


class Deleted(NamedTuple):
    """What a bulk deletion did."""

    deleted: list[int]
    not_found: list[int]


class Surface(Protocol):
    """What both doors can do. Each verb raises ``Refused`` when the door says no."""

    async def list_tasks(self, token: str, **query: Any) -> Listed:
        """List: ``completed``, ``limit`` and ``cursor`` where given."""
        ...

    async def create_task(self, token: str, members: dict[str, Any]) -> Task:
        """Create, from the members as they are."""
        ...

    async def get_task(self, token: str, task_id: Any) -> Task:
        """Read one."""
        ...

    async def change_task(
        self, token: str, task_id: Any, changes: dict[str, Any], version: int | None
    ) -> Task:
        """Change the members given, at a version where one is given."""
        ...

    async def delete_task(self, token: str, task_id: Any, version: int | None) -> None:
        """Delete one, at a version where one is given."""
        ...

    async def delete_tasks(self, token: str, task_ids: list[Any]) -> Deleted:
        """Delete many."""
        ...


class RestSurface:
    """The REST door."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def list_tasks(self, token: str, **query: Any) -> Listed:
        """``GET /tasks``."""
        said = {name: _in_query(value) for name, value in query.items()}
        response = await self._call(token, "GET", "/tasks", params=said)
        following = response.links.get("next")
        cursor = httpx.URL(following["url"]).params["cursor"] if following else None
        return Listed([Task(**task) for task in response.json()], cursor)

    async def create_task(self, token: str, members: dict[str, Any]) -> Task:
        """``POST /tasks``."""
        return Task(**(await self._call(token, "POST", "/tasks", json=members)).json())

    async def get_task(self, token: str, task_id: Any) -> Task:
        """``GET /tasks/{id}``."""
        return Task(**(await self._call(token, "GET", f"/tasks/{task_id}")).json())

    async def change_task(
        self, token: str, task_id: Any, changes: dict[str, Any], version: int | None
    ) -> Task:
        """``PATCH /tasks/{id}``."""
        response = await self._call(
            token, "PATCH", f"/tasks/{task_id}", json=changes, headers=_if_match(version)
        )
        return Task(**response.json())

    async def delete_task(self, token: str, task_id: Any, version: int | None) -> None:
        """``DELETE /tasks/{id}``."""
        await self._call(token, "DELETE", f"/tasks/{task_id}", headers=_if_match(version))

    async def delete_tasks(self, token: str, task_ids: list[Any]) -> Deleted:
        """``POST /tasks/bulk-delete``."""
        body = {"task_ids": task_ids}
        return Deleted(**(await self._call(token, "POST", "/tasks/bulk-delete", json=body)).json())

    async def _call(
        self,
        token: str,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        **sent: Any,
    ) -> httpx.Response:
        identity = {"Authorization": f"Bearer {token}"} if token else {}
        response = await self._client.request(
            method, path, headers={**identity, **(headers or {})}, **sent
        )
        if response.status_code >= 400:
            raise Refused(response.json(), response.headers)
        return response


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


class GraphQLSurface:
    """The GraphQL door. What it spells its own way is given back in REST's spelling."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def list_tasks(self, token: str, **query: Any) -> Listed:
        """``tasks``."""
        # The doors differ in how many tasks they give when nothing is said.
        variables: dict[str, Any] = {"first": query.get("limit", 1000)}
        if "cursor" in query:
            variables["after"] = query["cursor"]
        if "completed" in query:
            variables["filter"] = {"completed": query["completed"]}
        page = await self._run(token, _TASKS, variables)
        following = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
        return Listed([_task(node) for node in page["nodes"]], following)

    async def create_task(self, token: str, members: dict[str, Any]) -> Task:
        """``createTask``."""
        return _task(await self._run(token, _CREATE, {"input": members}))

    async def get_task(self, token: str, task_id: Any) -> Task:
        """``task``; null is what 404 is in REST."""
        found = await self._run(token, _TASK, {"id": str(task_id)})
        if found is None:
            detail = f"Task with ID {task_id} not found"
            problem = {"type": "not_found_error", "status": 404, "detail": detail}
            raise Refused(problem, httpx.Headers())
        return _task(found)

    async def change_task(
        self, token: str, task_id: Any, changes: dict[str, Any], version: int | None
    ) -> Task:
        """``updateTask``."""
        variables = {"id": str(task_id), "input": changes, "expectedVersion": version}
        return _task(await self._run(token, _UPDATE, variables))

    async def delete_task(self, token: str, task_id: Any, version: int | None) -> None:
        """``deleteTask``."""
        await self._run(token, _DELETE, {"id": str(task_id), "expectedVersion": version})

    async def delete_tasks(self, token: str, task_ids: list[Any]) -> Deleted:
        """``deleteTasks``."""
        gone = await self._run(token, _DELETE_MANY, {"ids": [str(given) for given in task_ids]})
        return Deleted([int(x) for x in gone["deleted"]], [int(x) for x in gone["notFound"]])

    async def _run(self, token: str, document: str, variables: dict[str, Any]) -> Any:
        response = await self._client.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        answer = response.json()
        if "errors" in answer:
            raise Refused(_in_rests_spelling(answer["errors"][0]["extensions"]), response.headers)
        return answer["data"]["result"]


_FIELDS = "id userId title description completed version createdAt updatedAt"
_TASKS = f"""
query ($first: Int, $after: String, $filter: TaskFilter) {{
  result: tasks(first: $first, after: $after, filter: $filter) {{
    nodes {{ {_FIELDS} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
_TASK = f"query ($id: ID!) {{ result: task(id: $id) {{ {_FIELDS} }} }}"
_CREATE = (
    f"mutation ($input: CreateTaskInput!) {{ result: createTask(input: $input) {{ {_FIELDS} }} }}"
)
_UPDATE = f"""
mutation ($id: ID!, $input: UpdateTaskInput!, $expectedVersion: Int) {{
  result: updateTask(id: $id, input: $input, expectedVersion: $expectedVersion) {{ {_FIELDS} }}
}}"""
_DELETE = """
mutation ($id: ID!, $expectedVersion: Int) {
  result: deleteTask(id: $id, expectedVersion: $expectedVersion) { id }
}"""
_DELETE_MANY = "mutation ($ids: [ID!]!) { result: deleteTasks(ids: $ids) { deleted notFound } }"

_RESTS_FIELDS = {
    "first": "limit",
    "after": "cursor",
    "filter.completed": "completed",
    "ids": "task_ids",
    "id": "task_id",
}


def _task(node: dict[str, Any]) -> Task:
    return Task(
        id=int(node["id"]),
        user_id=node["userId"],
        title=node["title"],
        description=node["description"],
        completed=node["completed"],
        version=node["version"],
        created_at=node["createdAt"],
        updated_at=node["updatedAt"],
    )


def _in_rests_spelling(extensions: dict[str, Any]) -> dict[str, Any]:
    problem = {name: value for name, value in extensions.items() if name != "code"}
    for error in problem.get("errors", ()):
        name, dot, rest = error["field"].partition(".")
        whole = _RESTS_FIELDS.get(error["field"])
        error["field"] = whole or _RESTS_FIELDS.get(name, name) + dot + rest
    return problem
