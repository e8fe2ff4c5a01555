"""The OpenAPI document: FastAPI's, corrected where it does not say what our routes do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from rest import problem_documents
from rest.problem_documents import ProblemDocument
from rest.route import media_types

_DESCRIPTION: Final = """\
Every request for tasks carries `Authorization: Bearer <session token>`; tasks that are not yours
do not exist for you. Errors are problem documents (RFC 9457), the same on every path; each response
has an `X-Request-ID`, your own where you send one. `HEAD` works wherever `GET` does, and a path
means the same with a slash at its end."""

_CONTACT: Final = {"name": "The Twofold authors"}
_LICENSE: Final = {"name": "MIT", "identifier": "MIT"}

# Relative to the document's own URL (OpenAPI 3.1, 4.8.5), so that it holds under any prefix that a
# proxy strips. The default, "/", does not.
_SERVERS: Final = [{"url": ".", "description": "Where this document is."}]

_TAGS: Final = [
    {"name": "tasks", "description": "Your tasks."},
    {"name": "health", "description": "For the machines that watch."},
]

_SECURITY_SCHEMES: Final = {
    "session": {
        "type": "http",
        "scheme": "bearer",
        "description": "The session token of the auth server, raw or signed.",
    }
}

_REQUEST_ID: Final = {
    "X-Request-ID": {
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "description": "Yours, or one made for you; the log has the request under it.",
    }
}

_RATE_LIMIT: Final = {
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
    """The OpenAPI 3.1 document of an app's routes. It is computed once and kept in the app."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def render(app: FastAPI) -> str:
    """The document as text, in the form in which it is committed."""
    return json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"


def _document(app: FastAPI) -> dict[str, Any]:
    result = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=_SERVERS,
        contact=_CONTACT,
        license_info=_LICENSE,
    )
    for path in result["paths"].values():
        for method, operation in path.items():
            _correct_parameters(operation)
            _correct_request_body(method, operation)
            _correct_responses(operation)
    responses = problem_documents.components()
    for name, response in responses.items():
        is_of_charged_requests = name not in problem_documents.UNCHARGED
        _add_headers(response, _REQUEST_ID | (_RATE_LIMIT if is_of_charged_requests else {}))
    for path in result["paths"].values():
        if "get" in path:
            path["head"] = _head(path["get"], responses)
    result["components"] = {
        "schemas": _schemas(app),
        "responses": responses,
        "headers": _REQUEST_ID | _RATE_LIMIT,
        "securitySchemes": _SECURITY_SCHEMES,
    }
    return _with_titles_as_names(result)


def _correct_parameters(operation: dict[str, Any]) -> None:
    # FastAPI writes name and description twice: in the parameter and in its schema.
    for parameter in operation.get("parameters", ()):
        parameter["schema"].pop("title", None)
        parameter["schema"].pop("description", None)
        if parameter["schema"].get("type") == "array":
            # A list is one parameter, whose values commas separate.
            parameter |= {"style": "form", "explode": False}


def _correct_request_body(method: str, operation: dict[str, Any]) -> None:
    # FastAPI knows one media type for a body; a route of ours may read several.
    if "requestBody" in operation:
        [content] = operation["requestBody"]["content"].values()
        operation["requestBody"]["content"] = dict.fromkeys(media_types(method.upper()), content)


def _correct_responses(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI adds the 422 of its own validation. Ours is 400, and 422 is about a key.
    if "$ref" not in responses.get("422", {}):
        responses.pop("422", None)
    is_authenticated = "401" in responses
    for response in responses.values():
        if "$ref" in response:
            # FastAPI requires a description; a reference takes its component's.
            response.pop("description")
            continue
        for content in response.get("content", {}).values():
            # FastAPI makes a title from the operation's id: "Response List Tasks".
            content["schema"].pop("title", None)
        _add_headers(response, _REQUEST_ID | (_RATE_LIMIT if is_authenticated else {}))
    operation["responses"] = dict(sorted(responses.items()))
    operation["security"] = [{"session": []}] if is_authenticated else []


def _head(get: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The operation HEAD beside GET, which ``HeadMiddleware`` answers.

    Each status stands by itself: a client generator writes ``4XX`` as a number into TypeScript.
    """
    name = get["operationId"].removeprefix("get_").removeprefix("list_")
    responses = {
        status: components[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        for status, response in get["responses"].items()
    }
    return get | {
        "summary": f"{get['summary']}, Headers Only",
        "description": "Like GET, but without a body.",
        "operationId": f"head_{name}",
        "responses": {
            status: {key: member for key, member in response.items() if key != "content"}
            for status, response in responses.items()
        },
    }


def _add_headers(response: dict[str, Any], headers: dict[str, Any]) -> None:
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    response["headers"] = response.get("headers", {}) | references


def _schemas(app: FastAPI) -> dict[str, Any]:
    """The schemas of all bodies, from pydantic.

    FastAPI's own copy of them passes through its model of OpenAPI, which rounds integers beyond
    2^53 and drops null from examples.
    """
    _, result = TypeAdapter.json_schemas(
        ((number, mode, TypeAdapter(model)) for number, (mode, model) in enumerate(_models(app))),
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = result["$defs"]
    for schema in schemas.values():
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
            if "default" in member:
                # Client generators declare a member with a default as always present.
                default = json.dumps(member.pop("default"))
                member["description"] += f" Absent means {default}."
    return schemas


def _models(app: FastAPI) -> Iterator[tuple[JsonSchemaMode, Any]]:
    for route in app.routes:
        if isinstance(route, APIRoute):
            if route.body_field:
                yield "validation", route.body_field.field_info.annotation
            if route.response_model:
                yield "serialization", route.response_model
    yield "serialization", ProblemDocument


def _with_titles_as_names(result: dict[str, Any]) -> dict[str, Any]:
    """The document with each schema under its title: ``Task`` instead of ``TaskDocument``.

    Pydantic names a schema after its class, whose name must be unique in Python only.
    """
    schemas = result["components"]["schemas"]
    result["components"]["schemas"] = {schema["title"]: schema for schema in schemas.values()}
    renamed: dict[str, Any] = json.loads(
        re.sub(
            r'(?<="#/components/schemas/)\w+(?=")',
            lambda name: schemas[name[0]]["title"] if name[0] in schemas else name[0],
            json.dumps(result),
        )
    )
    return renamed
