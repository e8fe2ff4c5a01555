"""The OpenAPI document describes what the app does, and the app does what it describes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

import api.http.body
from api.app import create_app
from persistence import tasks
from persistence.idempotency import KeyInFlight, KeyMismatch
from persistence.validation import MAX_ID
from rest.tasks import ListQuery
from tests.conftest import new_client, settings_of_tests
from tests.documented import DOCUMENT, OPERATIONS
from tests.streams import Stream

JSON = {"Content-Type": "application/json"}
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


def _operation(operation: str) -> dict[str, Any]:
    method, path = OPERATIONS[operation]
    documented: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return documented


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
        "head_trash": ("HEAD", "/tasks/trash"),
        "head_task": ("HEAD", "/tasks/{task_id}"),
        "head_health": ("HEAD", "/health"),
        "head_ready": ("HEAD", "/health/ready"),
    }


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
    documented = _parameters(operation)[parameter]["schema"]

    assert schema.items() <= documented.items()
    assert all(type(documented[name]) is type(value) for name, value in schema.items())


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("list_tasks", [*ListQuery.model_fields, "Prefer"]),
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
    documented = _parameters(operation)

    assert list(documented) == parameters
    assert [name for name, parameter in documented.items() if parameter["required"]] == (
        [name for name in parameters if name == "task_id"]
    )


def test_the_patterns_of_cursors_and_titles_are_documented() -> None:
    cursor = jsonschema_rs.validator_for(_parameters("list_tasks")["cursor"]["schema"])
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
    patterns = [value for key, value in _walk(DOCUMENT) if key == "pattern"]

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
    body = _operation(operation)["requestBody"]

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
    _validator({"$ref": place}).validate(example)


def test_a_new_task_needs_a_title_alone_and_a_change_what_changes() -> None:
    bodies = {operation: _operation(operation)["requestBody"]["content"] for operation in BODIES}
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
    parameter = _parameters("delete_task")["task_id"]

    assert not {"example", "examples", "default"} & {*parameter, *parameter["schema"]}


def test_put_is_named_as_what_it_does() -> None:
    assert _operation("put_task")["summary"] == "Update Task by PUT"
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
    references = {value for key, value in _walk(DOCUMENT) if key == "$ref"}
    components = {
        f"#/components/{kind}/{name}"
        for kind, members in DOCUMENT["components"].items()
        for name in members
        if kind != "securitySchemes"
    }

    assert references == components


def test_every_operation_has_a_description_and_its_security() -> None:
    for operation in OPERATIONS:
        documented = _operation(operation)
        assert documented["summary"]
        assert documented["description"].endswith(".")
        is_open = documented["tags"] == ["health"]
        assert documented["security"] == ([] if is_open else [{"session": []}])


# Responses


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_succeeds_as_documented(
    operation: str, ada_client: httpx.AsyncClient
) -> None:
    response = await _send(ada_client, operation, await _task_id(ada_client, operation))

    assert response.is_success
    _as_documented(operation, response)


# A request for each documented status. In the other direction, each test client fails on a status
# that is not documented; see ``tests.documented``.
PROVOCATIONS: dict[str, dict[str, Any]] = {
    "304": {"headers": {"If-None-Match": "*"}},
    "400": {"headers": {"Host": "no host"}},
    "401": {"headers": {"Authorization": "Bearer x"}},
    "404": {"task_id": 999},
    "408": {"json": None, "content": Stream(1000, seconds=0.01), "headers": JSON},
    "409": {"headers": {"Idempotency-Key": "running"}},
    "412": {"headers": {"If-Match": '"7"'}},
    "413": {"json": "x" * 70_000},
    "415": {"headers": {"Content-Type": "text/plain"}},
    "421": {"headers": {"Host": "evil.example"}},
    "422": {"headers": {"Idempotency-Key": "used"}},
    "429": {},
    "500": {},
    "503": {},
}
CONDITIONAL = {
    "Idempotency-Replayed",
    "Link",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Total-Count",
}
"""Headers that only some responses have: with another page, with rate limits switched on."""
SUCCESS = {"200", "201", "204"}


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (operation, status)
        for operation, (method, path) in OPERATIONS.items()
        for status in DOCUMENT["paths"][path][method.lower()]["responses"]
        if status not in SUCCESS
    ],
)
async def test_every_documented_status_occurs(
    operation: str,
    status: str,
    ada_client: httpx.AsyncClient,
    without_database: httpx.AsyncClient,
    spent_client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task_id = await _task_id(ada_client, operation)
    client = {"503": without_database, "429": spent_client}.get(status, ada_client)
    DEFECTS.get(status, lambda _: None)(monkeypatch)

    response = await _send(client, operation, **{"task_id": task_id} | PROVOCATIONS[status])

    assert response.status_code == int(status)
    _as_documented(operation, response)


def _raise_everywhere(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] = RuntimeError
) -> None:
    def _fail(*arguments: object) -> None:
        raise error

    for name in (
        *("list_page", "create", "remove_many", "get", "change", "remove"),
        *("list_trash", "restore", "empty_trash", "create_many", "change_many"),
    ):
        monkeypatch.setattr(tasks, name, _fail)
    monkeypatch.setattr("rest.health._ok", _fail)
    monkeypatch.setattr("api.server.readiness.find_schema_problem", _fail)


DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "408": lambda monkeypatch: monkeypatch.setattr(api.http.body, "BODY_SECONDS", 0.01),
    "409": lambda monkeypatch: _raise_everywhere(monkeypatch, KeyInFlight),
    "422": lambda monkeypatch: _raise_everywhere(monkeypatch, KeyMismatch),
    "500": _raise_everywhere,
}


@pytest.fixture
async def charged_client(
    ada_client: httpx.AsyncClient, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of an app with rate limits."""
    budget = {"rate_limit_enabled": True, "rate_limit_write": "100/minute"}
    app = create_app(settings_of_tests(database_url=database_url, **budget))
    async with app.router.lifespan_context(app), new_client(app) as client:
        client.headers["Authorization"] = ada_client.headers["Authorization"]
        yield client


RATE_LIMIT = {name for name in CONDITIONAL if "RateLimit" in name}
NO_PROVOCATION: dict[str, Any] = {}
CHARGED = PROVOCATIONS | dict.fromkeys(SUCCESS, NO_PROVOCATION) | {"400": {"params": {"typo": "x"}}}


@pytest.mark.parametrize(
    "operation", [name for name in OPERATIONS if "401" in _operation(name)["responses"]]
)
async def test_the_rate_limit_headers_are_documented_where_they_are_sent(
    operation: str, charged_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented, sent = {}, {}
    for status in _operation(operation)["responses"].keys() - {"429", "503"}:
        task_id = await _task_id(charged_client, operation)
        with monkeypatch.context() as patched:
            DEFECTS.get(status, lambda _: None)(patched)
            options = {"task_id": task_id} | CHARGED[status]
            response = await _send(charged_client, operation, **options)
        response_object = _resolved(_operation(operation)["responses"][status])
        documented[status] = RATE_LIMIT & response_object["headers"].keys()
        sent[str(response.status_code)] = {name for name in RATE_LIMIT if name in response.headers}

    assert sent == documented
    assert {status for status in sent if not sent[status]} == {"421"}


async def _task_id(client: httpx.AsyncClient, operation: str) -> int:
    """A task that the operation can do its work with."""
    task_id: int = (await client.post("/tasks", json={"title": "water"})).json()["id"]
    if operation == "restore_task":
        await client.delete(f"/tasks/{task_id}")
    return task_id


async def _send(
    client: httpx.AsyncClient, operation: str, task_id: int, **options: Any
) -> httpx.Response:
    method, path = OPERATIONS[operation]
    url = path.format(task_id=task_id)
    return await client.request(method, url, **{"json": BODIES.get(operation)} | options)


def _as_documented(operation: str, response: httpx.Response) -> None:
    """Assert that the body and the headers are those of the status in the document."""
    documented = _resolved(_operation(operation)["responses"][str(response.status_code)])
    assert [
        name
        for name in documented["headers"]
        if name not in response.headers and name not in CONDITIONAL
    ] == []
    no_content = {"schema": {"const": None}}
    content = (
        documented["content"][response.headers["Content-Type"]]
        if "content" in documented
        else no_content
    )
    _validator(content["schema"]).validate(response.json() if response.content else None)


def _parameters(operation: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in _operation(operation).get("parameters", [])}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    [schema] = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return dict(schema)


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    return RESPONSES[response["$ref"].rpartition("/")[2]] if "$ref" in response else response


def _validator(schema: dict[str, Any]) -> Any:
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)
