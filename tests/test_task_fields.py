"""A task's fields are the same wherever they are declared; a failure names the forgotten place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import graphql
import pytest
from graphql import GraphQLInputObjectType, GraphQLNonNull, GraphQLObjectType

from graphql_schema.schema import schema
from persistence import task_sql
from persistence.tables import tasks as table
from persistence.task_columns import DERIVED, STORED
from persistence.task_fields import EDITABLE, READ_ONLY, DeletedTask, EditableFields, Task
from persistence.task_inputs import NewTask, TaskChanges
from rest.task_documents import TaskDocument
from tests import model_refusals, model_results, model_values, operations, surfaces

SDL: Final = graphql.build_schema(schema().as_str())


def members(name: str) -> dict[str, Any]:
    """The fields of a GraphQL type, by their names in snake_case."""
    kind = SDL.type_map[name]
    assert isinstance(kind, GraphQLObjectType | GraphQLInputObjectType)
    return {snake(member): field for member, field in kind.fields.items()}


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def selected(selection: str) -> set[str]:
    """The fields of a GraphQL selection without nesting."""
    return {snake(name) for name in re.findall(r"\w+", selection)}


def example(document: Any) -> set[str]:
    """The members of a document's example in OpenAPI."""
    return set(document.model_config["json_schema_extra"]["examples"][0])


FIELDS_OF_COLUMNS: Final = {
    column: DERIVED[name].field if name in DERIVED else name
    for name, stored in STORED.items()
    for column in stored.write(table.c.id)
} | {"search_text": "title", "search_version": "version"}
"""The field that each column holds, or is computed from."""

INTERNAL: Final = {"seq"}
"""The columns that are no fields."""

EVERY_FIELD: Final[dict[str, Iterable[str]]] = {
    "persistence/tables.py, tasks": [
        FIELDS_OF_COLUMNS[column.name] for column in table.c if column.name not in INTERNAL
    ],
    "persistence/task_fields.py, DeletedTask": DeletedTask.__struct_fields__,
    "rest/task_documents.py, TaskDocument": TaskDocument.model_fields,
    "rest/task_documents.py, TaskDocument's example": {*example(TaskDocument), "deleted_at"},
    "graphql_schema/task_types.py, Task": members("Task"),
    "tests/operations.py, Task": [field.name for field in fields(operations.Task)],
    "tests/surfaces.py, _TASK": selected(surfaces._TASK),
}
"""Where all fields of a task are declared."""

EDITABLE_FIELDS: Final[dict[str, Iterable[str]]] = {
    "persistence/task_fields.py, EditableFields": EditableFields.model_fields,
    "persistence/task_inputs.py, NewTask": NewTask.model_fields,
    "persistence/task_inputs.py, TaskChanges": TaskChanges.model_fields,
    "persistence/task_sql.py, CREATE": set(task_sql.CREATE[False].parameters)
    - {"user_id", *DERIVED},
    "persistence/task_sql.py, CHANGE": {
        name.removesuffix("_provided")
        for name in task_sql.CHANGE[False].parameters
        if name.endswith("_provided")
    },
    "graphql_schema/task_inputs.py, CreateTaskInput": members("CreateTaskInput"),
    "graphql_schema/task_inputs.py, UpdateTaskInput": members("UpdateTaskInput"),
    "tests/operations.py, EDITABLE": operations.EDITABLE,
    "tests/model_values.py, STORED": model_values.STORED,
    "tests/model_refusals.py, MEMBERS": model_refusals.MEMBERS,
    "tests/model_results.py, Task": {field.name for field in fields(model_results.Task)}
    - set(READ_ONLY),
}
"""Where the fields are declared that a client may write."""

NULLABLE: Final[dict[str, dict[str, bool]]] = {
    "persistence/tables.py, tasks": {
        name: all(table.c[column].nullable for column in STORED[name].write(table.c.id))
        for name in Task.__struct_fields__
    },
    "persistence/task_fields.py, Task": {
        name: NoneType in get_args(hint) for name, hint in get_type_hints(Task).items()
    },
    "rest/task_documents.py, TaskDocument": {
        name: NoneType in get_args(field.annotation)
        for name, field in TaskDocument.model_fields.items()
    },
    "graphql_schema/task_types.py, Task": {
        name: not isinstance(field.type, GraphQLNonNull) for name, field in members("Task").items()
    },
}
"""Where it is declared whether a field may be null."""


def forgotten(places: dict[str, Iterable[str]]) -> str:
    """A line for each place that lacks a field which another place has."""
    declared = {name: set(names) for name, names in places.items()}
    every = set().union(*declared.values())
    return "\n".join(
        f"{place} has no {field}"
        for place, names in declared.items()
        for field in sorted(every - names)
    )


def test_every_field_is_declared_everywhere() -> None:
    lines = forgotten(EVERY_FIELD)

    assert not lines, lines


def test_every_editable_field_is_declared_everywhere() -> None:
    lines = forgotten(EDITABLE_FIELDS)

    assert not lines, lines


def test_every_editable_field_is_stored_and_the_rest_is_read_only() -> None:
    assert {*EDITABLE, *READ_ONLY} == set(FIELDS_OF_COLUMNS.values())
    assert set(READ_ONLY) == set(operations.READ_ONLY)


@pytest.mark.parametrize("field", Task.__struct_fields__)
def test_every_declaration_agrees_on_null(field: str) -> None:
    nullable = {place: fields.get(field) for place, fields in NULLABLE.items()}

    assert len(set(nullable.values())) == 1, nullable


def test_only_a_new_task_requires_a_field() -> None:
    assert not [name for name, field in TaskChanges.model_fields.items() if field.is_required()]


def test_a_place_that_forgets_a_field_is_named() -> None:
    places: dict[str, Iterable[str]] = {"here": ["title", "note"], "there": ["title"]}

    assert forgotten(places) == "there has no note"
