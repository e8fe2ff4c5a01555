"""Bodies as shells, editors and libraries write them, which are not quite JSON."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.people import HASH_SECRET, sign_in
from tests.surfaces import RestSurface

BROKEN = [
    (b"", "it is empty"),
    (b" \n", "it is empty"),
    (b'{"title": "x"', "it is cut off (byte 13)"),
    (b'{"title": "x",}', "trailing comma in object (byte 14)"),
    (b"[1,]", "trailing comma in array (byte 3)"),
    (b"{'title': 'x'}", "object keys must be strings (byte 1)"),
    (b'{"title": NaN}', "invalid character (byte 10)"),
    (b'{"title": 1e999}', "Number out of range"),
    (b'{"title": "x"} {}', "trailing characters (byte 16)"),
    (b'{"title": "caf\xe9"}', "it is not UTF-8 (byte 14)"),
    (b'\xef\xbb\xbf{"title": "x"}', "it begins with a byte order mark"),
    ('{"title": "x"}'.encode("utf-16"), "it is UTF-16, and must be UTF-8"),
    (b'{"title": "\\ud800"}', "it has a lone surrogate"),
    (b"[" * 60_000, "it is nested too deeply"),
    (b"title=x", "invalid character (byte 4)"),
]


@pytest.mark.parametrize(("body", "reason"), BROKEN, ids=[reason for _, reason in BROKEN])
@pytest.mark.parametrize("path", ["/tasks", "/graphql"])
async def test_a_body_that_is_not_json_says_why_and_where(
    path: str, body: bytes, reason: str, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post(
        path, content=body, headers={"Content-Type": "application/json"}
    )

    problem = response.json()["errors"][0]["extensions"] if path == "/graphql" else response.json()
    assert response.status_code == 400
    assert problem["errors"] == [
        {
            "field": "",
            "message": f"Body is not valid JSON: {reason}",
            "code": "json_invalid",
            "value": None,
        }
    ]


@pytest.mark.parametrize("path", ["/tasks", "/graphql"])
@pytest.mark.parametrize(
    "charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii", "US-ASCII", "ascii"]
)
async def test_ascii_and_utf_8_are_json(
    charset: str, path: str, ada_client: httpx.AsyncClient
) -> None:
    body = b'{"title": "water"}' if path == "/tasks" else b'{"query": "{ __typename }"}'
    headers = {"Content-Type": f"application/json; charset={charset}"}

    response = await ada_client.post(path, content=body, headers=headers)

    assert response.status_code in (200, 201)


@pytest.mark.parametrize("path", ["/tasks", "/graphql"])
@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "", "x" * 500])
async def test_another_charset_is_named_in_the_refusal(
    charset: str, path: str, ada_client: httpx.AsyncClient
) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}

    response = await ada_client.post(path, content=b"{}", headers=headers)

    problem = response.json()["errors"][0]["extensions"] if path == "/graphql" else response.json()
    assert response.status_code == 415
    assert problem["detail"] == f"The request body must be UTF-8, and not {charset[:50]}"


@pytest.mark.parametrize("name", ["variables", "operationName", "extensions"])
async def test_a_form_may_leave_a_member_empty(name: str, ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.get("/graphql", params={"query": "{ viewer { userId } }", name: ""})

    assert response.json()["data"] == {"viewer": {"userId": "ada"}}


async def test_a_query_must_not_be_empty(ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.get("/graphql", params={"query": ""})

    assert response.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


@pytest.mark.parametrize(
    "send",
    [
        {"method": "GET", "url": "/tasks/{token}"},
        {"method": "GET", "url": "/tasks?cursor={token}"},
        {"method": "GET", "url": "/tasks?{token}=1"},
        {"method": "GET", "url": "/{token}"},
        {"method": "POST", "url": "/tasks", "json": {"title": ["{token}"]}},
        {"method": "POST", "url": "/tasks", "json": {"title": "x", "{token}": 1}},
        {"method": "POST", "url": "/tasks", "json": {"completed": "{token}"}},
        {"method": "POST", "url": "/tasks", "json": {"completed": "x" * 180 + "{token}"}},
        {"method": "PATCH", "url": "/tasks/1", "json": {}, "headers": {"If-Match": "{token}"}},
        {"method": "POST", "url": "/graphql", "json": {"query": '{ task(id: "{token}") { id } }'}},
        {"method": "POST", "url": "/graphql", "json": {"query": "{ {token} }"}},
        {
            "method": "POST",
            "url": "/graphql",
            "json": {
                "query": "query ($id: ID!) { task(id: $id) { id } }",
                "variables": {"id": "{token}"},
            },
        },
    ],
)
@pytest.mark.parametrize("form", ["raw", "signed"])
async def test_an_error_never_repeats_the_callers_own_token(
    send: dict[str, object], form: str, sql: asyncpg.Connection, client: httpx.AsyncClient
) -> None:
    ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
    credentials = ada.token if form == "raw" else f"{ada.token}.{'A' * 43}%3D"

    def filled(value: object) -> object:
        match value:
            case str():
                return value.replace("{token}", ada.token)
            case dict():
                return {filled(name): filled(each) for name, each in value.items()}
            case list():
                return [filled(each) for each in value]
        return value

    request: dict[str, object] = {name: filled(value) for name, value in send.items()}
    headers = {**request.pop("headers", {}), "Authorization": f"Bearer {credentials}"}
    response = await client.request(**request, headers=headers)  # type: ignore[arg-type]

    assert b'"errors"' in response.content or response.status_code == 404
    assert ada.token[:12] not in response.text
