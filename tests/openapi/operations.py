"""The operations of the OpenAPI document, and requests for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from tests.documented import DOCUMENT, OPERATIONS

SCHEMAS = DOCUMENT["components"]["schemas"]
RESPONSES = DOCUMENT["components"]["responses"]
BODIES = {
    "create_task": {"title": "water"},
    "bulk_create_tasks": {"tasks": [{"title": "water"}]},
    "bulk_update_tasks": {"task_ids": [1], "changes": {"completed": True}},
    "bulk_delete_tasks": {"task_ids": [1]},
    "update_task": {"completed": True},
    "put_task": {"completed": True},
}


def documented_operation(operation: str) -> dict[str, Any]:
    method, path = OPERATIONS[operation]
    documented: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return documented


def parameters_of(operation: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in documented_operation(operation).get("parameters", [])}


def validator_of(schema: dict[str, Any]) -> Any:
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)
