"""Every field of the schema's types is compiled, unless it has a resolver of its own.

The compiled executor leaves a value that it does not know to the stock executor, which gives the
same response several times slower. No other test would notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graphql_schema.schema import schema

SCHEMA: Final[GraphQLSchema] = schema()._schema

ARGUMENTS: Final = {
    "task": '(id: "%s")',
    "node": '(id: "%s")',
    "createTask": (
        '(input: {title: "water the plants", description: "all of them", completed: true,'
        ' due: "2025-12-10", priority: HIGH, tags: "home"})'
    ),
    "updateTask": '(id: "%s", input: {})',
    "deleteTask": '(id: "%s")',
    "createTasks": (
        '(inputs: [{title: "water the plants", description: "all of them", completed: true,'
        ' due: "2025-12-10", priority: HIGH, tags: "home"}])'
    ),
    "updateTasks": '(ids: ["%s", "0"], input: {})',
    "deleteTasks": '(ids: ["%s", "0"])',
    "restoreTask": '(id: "%d")',
}
"""Of the root fields that have required ones.

``%s`` stands for the id of a task, ``%d`` for the id of a deleted one.
"""

TASK: Final = {
    "title": "sow",
    "description": "in rows",
    "completed": True,
    "due": "2025-12-10T12:30:00Z",
    "tags": ["garden"],
}
"""A task without nulls."""


def leaf_paths(type_: GraphQLObjectType) -> Iterator[tuple[str, ...]]:
    """The names on the way to each leaf below a type."""
    for name, field in type_.fields.items():
        below = get_named_type(field.type)
        if isinstance(below, GraphQLInterfaceType):
            continue  # Only the stock executor knows which type a value has.
        if isinstance(below, GraphQLObjectType):
            yield from ((name, *path) for path in leaf_paths(below))
        else:
            yield (name,)


PATHS: Final = [
    (kind, path)
    for kind, type_ in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type))
    if type_
    for path in leaf_paths(type_)
]


def has_resolver(coordinate: str) -> bool:
    type_name, name = coordinate.split(".")
    type_ = SCHEMA.type_map[type_name]
    assert isinstance(type_, GraphQLObjectType)
    return type_.fields[name].extensions["strawberry-definition"].base_resolver is not None


def leaf(data: Any, path: tuple[str, ...]) -> Any:
    """The first value at a path."""
    for name in path:
        data = data[name]
        if isinstance(data, list):
            data = data[0]
    return data


@pytest.mark.parametrize(("kind", "path"), PATHS, ids=lambda value: ".".join(value))
async def test_a_field_without_a_resolver_is_compiled(
    kind: str,
    path: tuple[str, ...],
    app: FastAPI,
    ada_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fallbacks = app.state.documents.statistics.fallbacks
    task = await ada_client.post("/tasks", json=TASK)
    deleted = await ada_client.post("/tasks", json=TASK)
    await ada_client.delete(f"/tasks/{deleted.json()['id']}")
    root, *below = path
    selection = "".join(f" {{ {name}" for name in below) + " }" * len(below)
    arguments = ARGUMENTS.get(root, "").replace("%s", str(task.json()["id"]))
    arguments = arguments.replace("%d", str(deleted.json()["id"]))
    executed: list[str] = []
    execute_field = StrawberryGraphQLCoreExecutionContext.execute_field

    def record(self: Any, parent: Any, source: Any, fields: Any, *rest: Any) -> Any:
        executed.append(f"{parent.name}.{fields[0].node.name.value}")
        return execute_field(self, parent, source, fields, *rest)

    monkeypatch.setattr(StrawberryGraphQLCoreExecutionContext, "execute_field", record)
    response = await ada_client.post(
        "/graphql", json={"query": f"{kind} {{ {root}{arguments}{selection} }}"}
    )

    assert "errors" not in response.json()
    is_null = path[-1] == "deletedAt" and root != "trash"
    assert (leaf(response.json()["data"], path) is None) == is_null
    assert [name for name in executed if not has_resolver(name)] == []
    assert app.state.documents.statistics.fallbacks == fallbacks
