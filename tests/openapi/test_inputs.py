"""Parameters and bodies in the OpenAPI document: bounds, patterns and members."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest

from persistence.field_types import MAX_ID
from rest.tasks import ListQuery
from tests.documented import DOCUMENT
from tests.openapi.operations import SCHEMAS, documented_operation, parameters_of, walk


# Bounds
@pytest.mark.parametrize(
    ("place", "bounds"),
    [
        ("NewTask.title", {"minLength": 1, "maxLength": 200}),
        ("TaskChanges.title", {"minLength": 1, "maxLength": 200}),
        ("Task.title", {"minLength": 1, "maxLength": 200}),
        ("NewTask.description", {"maxLength": 1000}),
        ("TaskChanges.description", {"maxLength": 1000}),
        ("Task.description", {"maxLength": 1000}),
        ("BulkCreate.tasks", {"minItems": 1, "maxItems": 100}),
        ("BulkUpdate.task_ids", {"minItems": 1, "maxItems": 1000}),
        ("Task.id", {"minimum": 1, "maximum": MAX_ID}),
        ("Task.version", {"minimum": 1}),
        ("BulkDelete.task_ids", {"minItems": 1, "maxItems": 1000}),
        ("Problem.errors", {"maxItems": 100}),
    ],
)
def test_every_bound_of_a_member_is_documented(place: str, bounds: dict[str, int]) -> None:
    model, _, member = place.partition(".")
    schema = SCHEMAS[model]["properties"][member]

    assert bounds.items() <= _without_null(schema).items()


@pytest.mark.parametrize(
    ("operation", "parameter", "schema"),
    [
        (
            "list_tasks",
            "limit",
            {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000},
        ),
        ("list_tasks", "completed", {"type": "boolean"}),
        ("get_task", "task_id", {"type": "integer", "minimum": 1, "maximum": MAX_ID}),
        ("delete_task", "task_id", {"type": "integer", "minimum": 1, "maximum": MAX_ID}),
    ],
)
def test_every_bound_of_a_parameter_is_documented(
    operation: str, parameter: str, schema: dict[str, Any]
) -> None:
    documented = parameters_of(operation)[parameter]["schema"]

    assert schema.items() <= documented.items()
    assert all(type(documented[name]) is type(value) for name, value in schema.items())


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("list_tasks", [*ListQuery.model_fields, "If-None-Match", "Prefer"]),
        ("list_changes", ["since", "limit"]),
        ("create_task", ["Idempotency-Key"]),
        ("bulk_create_tasks", ["Idempotency-Key"]),
        ("bulk_update_tasks", ["Idempotency-Key"]),
        ("bulk_delete_tasks", ["Idempotency-Key"]),
        ("get_task", ["task_id", "If-None-Match"]),
        ("update_task", ["task_id", "If-Match", "Idempotency-Key"]),
        ("put_task", ["task_id", "If-Match", "Idempotency-Key"]),
        ("delete_task", ["task_id", "If-Match", "Idempotency-Key"]),
        ("list_trash", ["limit", "cursor", "envelope"]),
        ("empty_trash", ["Idempotency-Key"]),
        ("restore_task", ["task_id", "Idempotency-Key"]),
        ("health", []),
        ("ready", []),
    ],
)
def test_every_parameter_is_documented(operation: str, parameters: list[str]) -> None:
    documented = parameters_of(operation)

    assert list(documented) == parameters
    assert [name for name, parameter in documented.items() if parameter["required"]] == (
        [name for name in parameters if name == "task_id"]
    )


def test_the_patterns_of_cursors_and_titles_are_documented() -> None:
    cursor = jsonschema_rs.validator_for(parameters_of("list_tasks")["cursor"]["schema"])
    title = jsonschema_rs.validator_for(SCHEMAS["NewTask"]["properties"]["title"])

    assert [cursor.is_valid(text) for text in ("AAZFm3zVSgAAAAAAAAAABw", "x", "_" * 22)] == (
        [True, False, False]
    )
    assert [
        title.is_valid(text) for text in ("x", " x\n", " ", "\u3000\x85", "x\x00", "\ufeff")
    ] == ([True, True, False, False, False, True])
    assert [title.is_valid(text) for text in ("\u2028\u2029", "\x1c", "\u200b", "a\nb")] == (
        [False, True, True, True]
    )


def test_no_pattern_names_a_line_separator() -> None:
    """Generators write it into a literal of JavaScript, and end the literal with it."""
    patterns = [value for key, value in walk(DOCUMENT) if key == "pattern"]

    assert len(patterns) >= 5
    assert [
        pattern for pattern in patterns if re.search(r"[\u2028\u2029]|\\u202[89]", pattern)
    ] == []


# Bodies
@pytest.mark.parametrize(
    ("operation", "schema", "media_types"),
    [
        ("create_task", "NewTask", ["application/json"]),
        ("bulk_create_tasks", "BulkCreate", ["application/json"]),
        ("bulk_update_tasks", "BulkUpdate", ["application/json"]),
        ("bulk_delete_tasks", "BulkDelete", ["application/json"]),
        ("update_task", "TaskChanges", ["application/json", "application/merge-patch+json"]),
        ("put_task", "TaskChanges", ["application/json", "application/merge-patch+json"]),
    ],
)
def test_the_schema_and_the_media_types_of_a_body_are_documented(
    operation: str, schema: str, media_types: list[str]
) -> None:
    body = documented_operation(operation)["requestBody"]

    assert body["required"] is True
    assert list(body["content"]) == media_types
    assert all(
        content["schema"] == {"$ref": f"#/components/schemas/{schema}"}
        for content in body["content"].values()
    )


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        ("NewTask", ["title"]),
        ("TaskChanges", []),
        ("BulkCreate", ["tasks"]),
        ("BulkUpdate", ["task_ids", "changes"]),
        ("BulkDelete", ["task_ids"]),
    ],
)
def test_unknown_members_are_not_allowed(schema: str, required: list[str]) -> None:
    assert SCHEMAS[schema]["additionalProperties"] is False
    assert SCHEMAS[schema].get("required", []) == required


@pytest.mark.parametrize("schema", ["NewTask", "TaskChanges"])
def test_a_body_may_have_every_member_of_a_task_and_marks_the_read_only_ones(schema: str) -> None:
    members = SCHEMAS[schema]["properties"]

    assert members.keys() == SCHEMAS["Task"]["properties"].keys()
    assert {name for name, member in members.items() if member.get("readOnly")} == (
        {"id", "user_id", "version", "created_at", "updated_at", "completed_at", "deleted_at"}
    )


@pytest.mark.parametrize("schema", ["NewTask", "TaskChanges"])
def test_a_read_only_member_has_the_type_that_it_has_in_a_task(schema: str) -> None:
    members, of_task = SCHEMAS[schema]["properties"], SCHEMAS["Task"]["properties"]
    read_only = [name for name, member in members.items() if member.get("readOnly")]

    assert len(read_only) == 7
    assert {name: _types(members[name]) for name in read_only} == (
        {name: _types(of_task[name]) for name in read_only}
    )


def _types(schema: dict[str, Any]) -> set[str]:
    return {each["type"] for each in schema.get("anyOf", [schema])}


def test_the_members_of_changes_have_no_default() -> None:
    members = SCHEMAS["TaskChanges"]["properties"].values()

    assert [member for member in members if "default" in member] == []


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    [schema] = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return dict(schema)
