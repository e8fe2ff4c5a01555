"""The OpenAPI document: FastAPI's, told what only we know."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from persistence.task_inputs import BulkDelete, NewTask, TaskChanges
from rest.errors import documented_responses
from rest.route import MERGE_PATCH
from rest.task_documents import (
    DeletedDocument,
    HealthDocument,
    ProblemDocument,
    ReadinessDocument,
    TaskDocument,
)

_DESCRIPTION: Final = """\
Every request for tasks carries `Authorization: Bearer <session token>`; tasks that are not yours
do not exist for you. Errors are problem documents (RFC 9457), the same on every path; each answer
has an `X-Request-ID`, your own where you send one. `HEAD` works wherever `GET` does, and a path
means the same with a slash at its end."""

_TAGS: Final = [
    {"name": "tasks", "description": "Your tasks."},
    {"name": "health", "description": "For the machines that watch."},
]

_SECURITY: Final = {
    "session": {
        "type": "http",
        "scheme": "bearer",
        "description": "The session token of the auth server, raw or signed.",
    }
}

_REQUEST_ID: Final = {
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    "description": "Yours, or one made for you; the log has the request under it.",
}

_BODIES: Final = (NewTask, TaskChanges, BulkDelete)
_ANSWERS: Final = (
    TaskDocument,
    DeletedDocument,
    ProblemDocument,
    HealthDocument,
    ReadinessDocument,
)


_RATE_HEADERS: Final = {
    name: {"description": description, "schema": {"type": kind}, "example": example}
    for name, description, kind, example in (
        ("X-RateLimit-Limit", "What anyone has of this kind, a minute.", "integer", 100),
        ("X-RateLimit-Remaining", "What you have left of it.", "integer", 57),
        ("X-RateLimit-Reset", "The Unix second at which it is full.", "integer", 1765370142),
        ("RateLimit-Policy", "The same, in the IETF draft's words.", "string", '"read";q=100;w=60'),
        ("RateLimit", "The same, in the IETF draft's words.", "string", '"read";r=57;t=42'),
    )
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app's routes."""
    if app.openapi_schema is None:
        app.openapi_schema = _renamed(_document(app))
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
    )
    for path in found["paths"].values():
        for method, operation in path.items():
            _tell_the_truth(method, operation)
    found["components"] = {
        "schemas": _schemas(),
        "responses": documented_responses(),
        "headers": {"X-Request-ID": _REQUEST_ID, **_RATE_HEADERS},
        "securitySchemes": _SECURITY,
    }
    for response in found["components"]["responses"].values():
        _add_request_id(response)
    return found


def _tell_the_truth(method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI's own, which is not what a client gets.
    responses.pop("422", None)
    operation["responses"] = {status: responses[status] for status in sorted(responses)}
    for response in responses.values():
        if "$ref" in response:
            response.pop("description")
            continue
        _add_request_id(response)
        for content in response.get("content", {}).values():
            content["schema"].pop("title", None)
    if "401" in responses:
        operation["security"] = [{"session": []}]
        for response in responses.values():
            if "$ref" not in response:
                response["headers"] |= {name: _header(name) for name in _RATE_HEADERS}
    if method in ("put", "patch"):
        content = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = dict.fromkeys(MERGE_PATCH, content[MERGE_PATCH[0]])
    for parameter in operation.get("parameters", ()):
        # Said once, beside the schema.
        for repeated in ("title", "description"):
            parameter["schema"].pop(repeated, None)
    for bodyless in responses.keys() & {"204", "304"}:
        responses[bodyless].pop("content", None)


def _add_request_id(response: dict[str, Any]) -> None:
    headers = response.setdefault("headers", {})
    headers["X-Request-ID"] = _header("X-Request-ID")


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _schemas() -> dict[str, Any]:
    """Pydantic's own words: FastAPI's have rounded integers, and examples without their nulls."""
    _, found = models_json_schema(
        [
            *((model, "validation") for model in _BODIES),
            *((model, "serialization") for model in _ANSWERS),
        ],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = found["$defs"]
    for schema in schemas.values():
        for described in schema["properties"].values():
            described.pop("title", None)
            if "default" in described:
                # Generators take a member with a default for one that is always there.
                absent = json.dumps(described.pop("default"))
                described["description"] += f" Absent means {absent}."
    return schemas


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    """The document with its schemas under their titles: ``Task``, where Python has several."""
    text = json.dumps(found)
    for name, schema in found["components"]["schemas"].items():
        text = text.replace(f'"{name}"', f'"{schema["title"]}"')
        text = text.replace(f'schemas/{name}"', f'schemas/{schema["title"]}"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def render(app: FastAPI) -> str:
    """The document as it is committed."""
    return json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"
