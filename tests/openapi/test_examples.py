"""The examples in the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.documented import DOCUMENT, OPERATIONS
from tests.openapi.operations import (
    BODIES,
    RESPONSES,
    SCHEMAS,
    documented_operation,
    parameters_of,
    validator_of,
)


# Examples
def _examples() -> Iterator[Any]:
    for name, schema in SCHEMAS.items():
        for example in schema.get("examples", []):
            yield pytest.param(f"#/components/schemas/{name}", example, id=name)
        for member, described in schema.get("properties", {}).items():
            for example in described.get("examples", []):
                place = f"#/components/schemas/{name}/properties/{member}"
                yield pytest.param(place, example, id=f"{name}.{member}")
    for operation, (method, path) in OPERATIONS.items():
        body = DOCUMENT["paths"][path][method.lower()].get("requestBody", {"content": {}})
        for media_type, content in body["content"].items():
            for name, example in content["examples"].items():
                place = content["schema"]["$ref"]
                yield pytest.param(place, example["value"], id=f"{operation} {media_type} {name}")
    for name, response in RESPONSES.items():
        for media_type, content in response["content"].items():
            place = content["schema"]["$ref"]
            yield pytest.param(place, content["example"], id=f"{name} {media_type}")


@pytest.mark.parametrize(("place", "example"), list(_examples()))
def test_an_example_matches_its_schema(place: str, example: Any) -> None:
    validator_of({"$ref": place}).validate(example)


def test_a_new_task_needs_a_title_alone_and_a_change_what_changes() -> None:
    bodies = {
        operation: documented_operation(operation)["requestBody"]["content"] for operation in BODIES
    }
    firsts = {
        operation: next(iter(content["application/json"]["examples"].values()))["value"]
        for operation, content in bodies.items()
    }

    assert firsts == {
        "create_task": {"title": "Water the plants"},
        "bulk_create_tasks": {
            "tasks": [{"title": "Water the plants"}, {"title": "Sweep the floor"}]
        },
        "bulk_update_tasks": {"task_ids": [1, 2, 3], "changes": {"completed": True}},
        "bulk_delete_tasks": {"task_ids": [1, 2, 3]},
        "update_task": {"completed": True},
        "put_task": {"completed": True},
    }


def test_no_tool_fills_in_the_id_of_a_task() -> None:
    parameter = parameters_of("delete_task")["task_id"]

    assert not {"example", "examples", "default"} & {*parameter, *parameter["schema"]}


def test_put_is_named_as_what_it_does() -> None:
    assert documented_operation("put_task")["summary"] == "Update Task by PUT"
    assert "replace" not in json.dumps(DOCUMENT).lower()


def test_the_example_of_an_error_has_no_member_that_is_not_documented() -> None:
    members = {
        member
        for response in RESPONSES.values()
        for content in response["content"].values()
        for member in content["example"]
    }

    assert members == SCHEMAS["Problem"]["properties"].keys()


def test_the_example_of_a_task_has_every_member() -> None:
    [example] = SCHEMAS["Task"]["examples"]

    assert example.keys() | {"deleted_at"} == SCHEMAS["Task"]["properties"].keys()
