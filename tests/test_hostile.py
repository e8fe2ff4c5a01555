"""Input made to break things: always answered with a 4xx of the catalogue, and nothing stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

import api.http.body
from api.errors import CATALOGUE
from api.http.body import MAX_BODY
from tests.streams import Stream

JSON = {"Content-Type": "application/json"}
TYPES = {problem_type.name: problem_type.status for problem_type in CATALOGUE.values()}


@pytest.fixture
async def path(ada_client: httpx.AsyncClient) -> str:
    """Where the one task is that there is."""
    response = await ada_client.post("/tasks", json={"title": "water", "description": "the fern"})
    return str(response.headers["Location"])


@pytest.fixture(autouse=True)
async def _nothing_stored(
    path: str, ada_client: httpx.AsyncClient, sql: asyncpg.Connection
) -> AsyncIterator[None]:
    before = await sql.fetch("SELECT * FROM tasks")
    yield
    assert await sql.fetch("SELECT * FROM tasks") == before
    assert (await ada_client.get("/health/ready")).status_code == 200


def refused(response: httpx.Response, status: int) -> None:
    """The response must be this error of the catalogue."""
    problem = response.json()
    assert response.status_code == problem["status"] == status, problem
    assert TYPES[problem["type"]] == status
    assert problem["request_id"] == response.headers["X-Request-ID"]


# Not JSON, or not quite

NOT_JSON = {
    "nothing": b"",
    "blank": b" \n",
    "nul": b"\x00",
    "truncated": b'{"title": "wat',
    "single quotes": b"{'title': 'water'}",
    "trailing comma": b'{"title": "water",}',
    "comment": b'{"title": "water"} // please',
    "two documents": b'{"title": "water"}{"title": "fern"}',
    "garbage after": b'{"title": "water"} x',
    "unquoted": b"{title: water}",
    "NaN": b'{"title": NaN}',
    "Infinity": b'{"title": -Infinity}',
    "too large a number": b'{"title": 1e999}',
    "too small a number": b'{"title": -1e999}',
    "too long a number": b'{"title": ' + b"9" * 20_000 + b"}",
    "too long a fraction": b'{"title": 0.' + b"9" * 20_000 + b"e99999}",
    "octal": b'{"title": 007}',
    "hexadecimal": b'{"title": 0x1}',
    "plus": b'{"title": +1}',
    "lone high surrogate": b'{"title": "\\ud800"}',
    "lone low surrogate": b'{"title": "\\udc00x"}',
    "surrogates the wrong way": b'{"title": "\\udc00\\ud800"}',
    "lone surrogate in a name": b'{"title": "water", "\\ud800": 1}',
    "surrogate as UTF-8": b'{"title": "\xed\xa0\x80"}',
    "invalid UTF-8": b'{"title": "\xff\xfe"}',
    "overlong UTF-8": b'{"title": "\xc0\xaf"}',
    "truncated UTF-8": b'{"title": "\xf0\x9f"}',
    "invalid UTF-8 in a name": b'{"title": "water", "\xff": 1}',
    "BOM": b'\xef\xbb\xbf{"title": "water"}',
    "UTF-16": '{"title": "water"}'.encode("utf-16"),
    "raw line break": b'{"title": "a\nb"}',
    "raw NUL": b'{"title": "a\x00b"}',
    "bad escape": b'{"title": "\\x41"}',
    "short escape": b'{"title": "\\u12"}',
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 12_000,
    "deep and closed": b'{"title":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep in what is not read": b'{"id":' + b"[" * 30_000 + b"]" * 30_000 + b', "title": "x"}',
    "form": b"title=water",
    "XML": b"<task/>",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("operation", ["POST /tasks", "PATCH {path}", "POST /tasks/bulk-delete"])
async def test_what_is_not_json_is_invalid(
    operation: str, body: bytes, ada_client: httpx.AsyncClient, path: str
) -> None:
    method, _, url = operation.format(path=path).partition(" ")
    response = await ada_client.request(method, url, content=body, headers=JSON)

    refused(response, 400)
    [error] = response.json()["errors"]
    assert (error["field"], error["code"], error["value"]) == ("", "json_invalid", None)


async def test_nesting_over_the_limit_of_a_body_is_refused_before_it_is_parsed(
    ada_client: httpx.AsyncClient,
) -> None:
    refused(await ada_client.post("/tasks", content=b"[" * 100_000, headers=JSON), 413)


# JSON, but not ours

WRONG: list[tuple[str, Any]] = [
    ("POST /tasks", {"title": "a\x00b"}),
    ("POST /tasks", {"title": "\x00"}),
    ("POST /tasks", {"title": "water", "description": "\x00"}),
    ("POST /tasks", {"title": "x" * 60_000}),
    ("POST /tasks", {"title": " " * 60_000}),
    ("POST /tasks", {"title": 10**1000}),
    ("POST /tasks", {"title": {"title": {"title": "water"}}}),
    ("POST /tasks", {"title": True}),
    ("POST /tasks", {"title": "water", "completed": "yes"}),
    ("POST /tasks", {"title": "water", "completed": 0}),
    ("POST /tasks", {"title": "water", "completed": 1.0}),
    ("POST /tasks", {"title": "water", "__proto__": {}}),
    ("POST /tasks", {"title": "water", "__class__": "x"}),
    ("POST /tasks", {"title": "water", "title ": "x"}),
    ("POST /tasks", {"title": "water", "\x00": "x"}),
    ("POST /tasks", {str(n): n for n in range(5000)}),
    ("PATCH {path}", {"title": "\x00"}),
    ("PATCH {path}", {"title": {"set": "x"}}),
    ("PATCH {path}", {"completed": "true"}),
    ("PATCH {path}", [{"op": "replace", "path": "/title", "value": "x"}]),
    ("PUT {path}", {"version": 1, "owner": "bob"}),
    ("POST /tasks/bulk-delete", {"task_ids": [True]}),
    ("POST /tasks/bulk-delete", {"task_ids": ["1"]}),
    ("POST /tasks/bulk-delete", {"task_ids": [1.5]}),
    ("POST /tasks/bulk-delete", {"task_ids": [[1]]}),
    ("POST /tasks/bulk-delete", {"task_ids": [None]}),
    ("POST /tasks/bulk-delete", {"task_ids": {"0": 1}}),
    ("POST /tasks/bulk-delete", {"task_ids": "1"}),
    ("POST /tasks/bulk-delete", {"task_ids": [{}] * 20_000}),
    ("POST /tasks/bulk-delete", {"task_ids": list(range(1, 10_000))}),
]


@pytest.mark.parametrize(("operation", "body"), WRONG, ids=lambda value: repr(value)[:60])
async def test_what_is_json_and_wrong_is_invalid(
    operation: str, body: Any, ada_client: httpx.AsyncClient, path: str
) -> None:
    method, _, url = operation.format(path=path).partition(" ")

    refused(await ada_client.request(method, url, json=body), 400)


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**64, -(2**63) - 1, 10**4000, 1e300, -0.0])
async def test_no_number_is_too_large_to_be_not_found(
    number: float, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/tasks/bulk-delete", json={"task_ids": [number]})

    assert response.json() == {"deleted": [], "not_found": [int(number)]}


async def test_of_a_member_given_twice_the_last_counts(
    ada_client: httpx.AsyncClient, path: str
) -> None:
    body = b'{"title": "first", "title": "water", "completed": true, "completed": false}'

    response = await ada_client.patch(path, content=body, headers=JSON)

    # RFC 8259, 4 leaves it open; every parser our clients have does the same.
    assert (response.json()["title"], response.json()["version"]) == ("water", 1)


# Too large, too slow


@pytest.mark.parametrize(
    "operation", ["POST /tasks", "PUT {path}", "PATCH {path}", "POST /tasks/bulk-delete"]
)
async def test_a_body_over_the_limit_is_not_read_whole(
    operation: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    method, _, url = operation.format(path=path).partition(" ")
    body = Stream(10_000)

    response = await ada_client.request(method, url, content=body, headers=JSON)

    refused(response, 413)
    assert response.headers["Connection"] == "close"
    assert MAX_BODY / 1024 < body.read <= MAX_BODY / 1024 + 2


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "9" * 18, "9" * 5000])
async def test_a_body_that_says_it_is_over_the_limit_is_not_read_at_all(
    length: str, ada_client: httpx.AsyncClient
) -> None:
    body = Stream(100)

    response = await ada_client.post(
        "/tasks", content=body, headers=JSON | {"Content-Length": length}
    )

    refused(response, 413)
    assert body.read == 0


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Encoding": "gzip"}, {"Content-Type": "text/plain"}]
)
async def test_a_body_of_the_wrong_type_is_not_read_at_all(
    headers: dict[str, str], ada_client: httpx.AsyncClient
) -> None:
    body = Stream(100)

    refused(await ada_client.post("/tasks", content=body, headers=headers), 415)
    assert body.read == 0


async def test_a_strangers_body_is_not_read_at_all(client: httpx.AsyncClient) -> None:
    body = Stream(100)

    refused(await client.post("/tasks", content=body, headers=JSON), 401)
    assert body.read == 0


async def test_a_body_just_at_the_limit_is_read(ada_client: httpx.AsyncClient, path: str) -> None:
    padding = b" " * (MAX_BODY - 2)

    response = await ada_client.patch(path, content=b"{" + padding + b"}", headers=JSON)

    assert response.status_code == 200


async def test_a_body_that_trickles_is_given_up(
    ada_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.http.body, "BODY_SECONDS", 0.05)
    body = Stream(1000, seconds=0.01)

    response = await ada_client.post("/tasks", content=body, headers=JSON)

    refused(response, 408)
    assert response.headers["Connection"] == "close"
    assert body.read < 10


# Headers, paths and queries


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "bearer\t", "Bearer \x00", "Bearer é", "Bearer " + "x" * 5000,
     "Basic eA==", "Bearer a b", "Bearer ' OR 1=1 --", "Bearer %00", "Bearer %FF.%FF",
     "Bearer " + "." * 4000, "Bearer x." + "A" * 43 + "=", "Bearer " + "%" * 4000],
)  # fmt: skip
async def test_a_token_that_is_none_is_401(authorization: str, client: httpx.AsyncClient) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}

    refused(await client.get("/tasks", headers=headers), 401)


async def test_two_tokens_are_none(ada_client: httpx.AsyncClient) -> None:
    twice = [("Authorization", ada_client.headers["Authorization"])] * 2
    del ada_client.headers["Authorization"]

    refused(await ada_client.get("/tasks", headers=twice), 401)


@pytest.mark.parametrize("name", ["If-Match", "X-Anything", "Accept", "Cookie"])
async def test_thousands_of_headers_cause_no_failure(
    name: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    lines = [(name, f"nonsense {number}") for number in range(10_000)]

    response = await ada_client.delete(f"{path}?x=1", headers=lines)

    refused(response, 400)


@pytest.mark.parametrize(
    "tags",
    ['"' * 8000, "," * 60_000, ", " * 30_000 + "x", '"a",' * 15_000 + "x", 'W/"' + "a" * 60_000,
     " " * 60_000 + "x", "\x00", '"\x00"', '"é' * 20_000],
    ids=lambda tags: repr(tags[:8]),
)  # fmt: skip
async def test_an_endless_condition_is_refused_at_once(
    tags: str, ada_client: httpx.AsyncClient, path: str
) -> None:
    async with asyncio.timeout(1):
        response = await ada_client.delete(path, headers={"If-Match": tags.encode("latin-1")})

    refused(response, 400)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/tasks/%00", 400),
        ("/tasks/%FF", 400),
        ("/tasks/%ED%A0%80", 400),
        ("/tasks/%F0%9F%AA%B4", 400),
        ("/tasks/%", 400),
        ("/tasks/%zz", 400),
        ("/tasks/1;drop", 400),
        ("/tasks/' OR 1=1 --", 400),
        ("/tasks/" + "a" * 60_000, 400),
        ("/tasks/" + "9" * 60_000, 404),
        ("/tasks/" + "%39" * 20_000, 404),
        ("/tasks/-" + "9" * 60_000, 404),
        ("/" + "x/" * 30_000, 404),
        ("/%00", 404),
        ("/tasks%00", 404),
        ("/tasks%0A", 404),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_an_odd_path_leads_nowhere(
    url: str, status: int, ada_client: httpx.AsyncClient
) -> None:
    refused(await ada_client.get(url), status)


@pytest.mark.parametrize(
    "query",
    ["%00", "limit=%00", "limit=%FF", "limit=%D9%A3", "completed=%FF", "cursor=%00", "cursor=%FF",
     "cursor=%ED%A0%80", "cursor=" + "%41" * 20_000, "limit=" + "9" * 60_000, "limit=1e3",
     "limit=-" + "9" * 5000, "limit=0x10", "limit=1_0", "limit= 1", "limit=NaN", "limit[]=1",
     "completed[]=true", "limit=1;completed=true", "%6C%69mit=0", "&".join(["a"] * 30_000),
     "&".join(f"p{number}=1" for number in range(7000)), "limit=1&" * 7000, "=" * 60_000],
    ids=lambda query: repr(query[:24]),
)  # fmt: skip
async def test_an_odd_query_is_invalid(query: str, ada_client: httpx.AsyncClient) -> None:
    refused(await ada_client.get(f"/tasks?{query}"), 400)


@pytest.mark.parametrize(
    "cursor",
    ["A", "AAAA", "A" * 20, "A" * 24, "A" * 60_000, "null", "0", "-1", "1,2", "eyJpZCI6MX0",
     "7" + "_" * 20 + "w", "%2B" * 22, "A" * 21 + "%3D", "AAAAAAAAAAA.AAAAAAAAAA"],
    ids=lambda cursor: repr(cursor[:24]),
)  # fmt: skip
async def test_a_cursor_nobody_made_is_invalid(cursor: str, ada_client: httpx.AsyncClient) -> None:
    response = await ada_client.get(f"/tasks?cursor={cursor}")

    refused(response, 400)
    assert response.json()["errors"][0]["code"] == "cursor_invalid"
