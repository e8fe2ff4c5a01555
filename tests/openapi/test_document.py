"""The form of the OpenAPI document: names, references, operation ids."""

from __future__ import annotations

import json

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from tests.documented import DOCUMENT, OPERATIONS
from tests.openapi.operations import SCHEMAS, documented_operation, walk


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == DOCUMENT


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_schemas_are_json_schemas(name: str) -> None:
    jsonschema_rs.meta.validate(SCHEMAS[name])


def test_operation_ids_are_short_and_stable() -> None:
    assert OPERATIONS == {
        "list_tasks": ("GET", "/tasks"),
        "create_task": ("POST", "/tasks"),
        "bulk_create_tasks": ("POST", "/tasks/bulk-create"),
        "bulk_update_tasks": ("POST", "/tasks/bulk-update"),
        "bulk_delete_tasks": ("POST", "/tasks/bulk-delete"),
        "get_task": ("GET", "/tasks/{task_id}"),
        "update_task": ("PATCH", "/tasks/{task_id}"),
        "put_task": ("PUT", "/tasks/{task_id}"),
        "delete_task": ("DELETE", "/tasks/{task_id}"),
        "health": ("GET", "/health"),
        "ready": ("GET", "/health/ready"),
        "list_trash": ("GET", "/tasks/trash"),
        "empty_trash": ("DELETE", "/tasks/trash"),
        "restore_task": ("POST", "/tasks/{task_id}/restore"),
        "head_tasks": ("HEAD", "/tasks"),
        "list_changes": ("GET", "/tasks/changes"),
        "head_changes": ("HEAD", "/tasks/changes"),
        "head_trash": ("HEAD", "/tasks/trash"),
        "head_task": ("HEAD", "/tasks/{task_id}"),
        "head_health": ("HEAD", "/health"),
        "head_ready": ("HEAD", "/health/ready"),
    }


# Form
def test_it_has_no_schema_or_name_that_only_fastapi_and_python_need() -> None:
    text = json.dumps(DOCUMENT)

    assert "HTTPValidationError" not in text
    assert "Document" not in "".join(SCHEMAS)
    assert "``" not in text
    assert {name for name, schema in SCHEMAS.items() if schema["title"] != name} == set()


def test_no_schema_has_the_name_of_a_member_of_its_own() -> None:
    """In a generated Python class, the member would hide the module of that name."""
    clashes = [
        name for name, schema in SCHEMAS.items() if name.lower() in schema.get("properties", ())
    ]

    assert clashes == []


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b"])
def test_the_server_is_where_the_document_is_whatever_prefix_a_proxy_strips(prefix: str) -> None:
    [server] = DOCUMENT["servers"]
    served_at = httpx.URL(f"https://tasks.example{prefix}/openapi.json")

    assert served_at.join(server["url"]) == f"https://tasks.example{prefix}/"


def test_every_reference_has_its_component_and_every_component_a_reference() -> None:
    references = {value for key, value in walk(DOCUMENT) if key == "$ref"}
    components = {
        f"#/components/{kind}/{name}"
        for kind, members in DOCUMENT["components"].items()
        for name in members
        if kind != "securitySchemes"
    }

    assert references == components


def test_every_operation_has_a_description_and_its_security() -> None:
    for operation in OPERATIONS:
        documented = documented_operation(operation)
        assert documented["summary"]
        assert documented["description"].endswith(".")
        is_open = documented["tags"] == ["health"]
        assert documented["security"] == ([] if is_open else [{"session": []}])
