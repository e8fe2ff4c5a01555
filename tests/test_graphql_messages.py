"""Error messages of production and development: complete sentences without the rejected value."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from api.app import create_app
from tests.conftest import HASH_SECRET, new_client, settings_of_tests
from tests.graphql_client import GRAPHQL
from tests.people import sign_in
from tests.surfaces import RestSurface


@pytest.fixture
async def production(
    database_url: str, sql: asyncpg.Connection
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an instance as users meet it."""
    settings = settings_of_tests(
        environment="production",
        database_url=database_url,
        redis_url="redis://127.0.0.1:1",
        cors_origins=["https://app.example.com"],
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        vera = await sign_in(sql, RestSurface(client), "vera", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {vera.token}"
        yield client


@pytest.mark.parametrize(
    ("sent", "hidden"),
    [
        ({"query": "{ __schema { types { name } } }"}, "TaskConnection"),
        ({"query": '{ __type(name: "Task") { name } }'}, "Did you mean"),
        ({"query": "{ task { id } }"}, "Did you mean"),
        ({"query": "{ tsks { id } }"}, "tasks"),
        ({"query": '{ tasks(frist: 1) { totalCount } }'}, "first"),
        ({"query": 'mutation { createTask(input: {titel: "s3cret", title: "x"}) { id } }'},
         "Did you mean"),
        ({"query": '{ tasks(first: "s3cret") { totalCount } }'}, "s3cret"),
        ({"query": "query ($n: Int) { tasks(first: $n) { totalCount } }",
          "variables": {"n": "s3cret"}}, "s3cret"),
        ({"query": "query ($i: CreateTaskInput!) { __typename }", "variables": {"i": "s3cret"}},
         "s3cret"),
    ],
)  # fmt: skip
async def test_production_neither_describes_nor_suggests_nor_echoes(
    sent: dict[str, Any], hidden: str, production: httpx.AsyncClient
) -> None:
    response = await production.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    assert response.status_code == 400
    assert hidden not in json.dumps(response.json()["errors"])


CREATE = "mutation ($v: CreateTaskInput!) { createTask(input: $v) { id } }"
READ = "query ($v: ID!) { task(id: $v) { id } }"
LIST = "query ($v: Int) { tasks(first: $v) { totalCount } }"
DELETE = "mutation ($v: [ID!]!) { deleteTasks(ids: $v) { deleted } }"
NOT_AN_ID = "ID cannot represent a non-string and non-integer value."
UNKNOWN = "Expected value of type 'CreateTaskInput' not to include unknown field"
INCOMPLETE = "Expected value of type 'CreateTaskInput' to include required field 'title'."

MESSAGES_ABOUT_VARIABLES: list[tuple[str, Any, str]] = [
    (CREATE, None, ": Expected value of non-null type 'CreateTaskInput!' not to be null."),
    (CREATE, "s3cret", ": Expected value of type 'CreateTaskInput' to be an object."),
    (CREATE, [{"title": "s3cret"}], ": Expected value of type 'CreateTaskInput' to be an object."),
    (CREATE, {"description": "s3cret"}, f": {INCOMPLETE}"),
    (CREATE, {"title": None}, " at .title: Expected value of non-null type 'String!' not to be "
     "null."),
    (CREATE, {"title": ["s3cret"]}, " at .title: String cannot represent a non string value."),
    (CREATE, {"title": "s3cret", "descripton": None}, f": {UNKNOWN} 'descripton'."),
    (CREATE, {"title": "s3cret", "a b', found: {": 1}, f": {UNKNOWN}s."),
    (CREATE, {"title": "s3cret", "a', found: {": 1}, f": {UNKNOWN} 'a'."),
    (CREATE, {"title": "s3cret", "": 1}, f": {UNKNOWN}s."),
    (CREATE, {"title": "s3cret", "x" * 9000: 1}, f": {UNKNOWN} '{'x' * 60}…'."),
    (CREATE, {"title": "a", "completed": "s3cret"},
     " at .completed: Boolean cannot represent a non boolean value."),
    (CREATE, {"title": "a", "completed": {"s3cret": True}},
     " at .completed: Boolean cannot represent a non boolean value."),
    (READ, True, f": {NOT_AN_ID}"),
    (READ, 5551234.5, f": {NOT_AN_ID}"),
    (READ, ["s3cret"], f": {NOT_AN_ID}"),
    (READ, {"s3cret": "Did you mean 's3cret'? Found: unknown field 's 3'"}, f": {NOT_AN_ID}"),
    (DELETE, ["1", None], " at [1]: Expected value of non-null type 'ID!' not to be null."),
    (DELETE, [False], f" at [0]: {NOT_AN_ID}"),
    (LIST, "s3cret, found: 's3cret'", ": Int cannot represent non-integer value."),
    (LIST, True, ": Int cannot represent non-integer value."),
    (LIST, 5551234000, ": Int cannot represent non 32-bit signed integer value."),
]  # fmt: skip

NOT_A_NAME = "Syntax Error: Expected Name, found"
BAD_ESCAPE = "Syntax Error: Invalid Unicode escape sequence."

MESSAGES_ABOUT_DOCUMENTS: list[tuple[str, str]] = [
    ("{ task(id: null) { id } }", "Expected value of non-null type 'ID!' not to be null."),
    ("{ task(id: tok_s3cret) { id } }", NOT_AN_ID),
    ("{ task(id: true) { id } }", NOT_AN_ID),
    ('{ task(id: {a: "s3cret"}) { id } }', NOT_AN_ID),
    ('{ task(id: ["s3cret"]) { id } }', NOT_AN_ID),
    ("{ task(id: 5551234.5) { id } }", NOT_AN_ID),
    ("{ tasks(first: s3cret) { totalCount } }", "Int cannot represent non-integer value."),
    ("{ tasks(first: 5551234000) { totalCount } }",
     "Int cannot represent non 32-bit signed integer value."),
    (f"{{ tasks(first: {'5551234' * 700}) {{ totalCount }} }}", "Expected value of type 'Int'."),
    (f"query ($v: Int = {'5551234' * 700}) {{ tasks(first: $v) {{ totalCount }} }}",
     "Expected value of type 'Int'."),
    ("query ($v: Int! = null) { tasks(first: $v) { totalCount } }",
     "Expected value of non-null type 'Int!' not to be null."),
    ("{ tasks(after: 5551234) { totalCount } }", "String cannot represent a non string value."),
    ('{ tasks(filter: "s3cret") { totalCount } }',
     "Expected value of type 'TaskFilter' to be an object."),
    ("{ tasks(filter: {completed: s3cret}) { totalCount } }",
     "Boolean cannot represent a non boolean value."),
    ('{ viewer @skip(if: "s3cret") { userId } }', "Boolean cannot represent a non boolean value."),
    ('mutation { createTask(input: {title: """\\n\ns3cret""", titel: 1}) { id } }',
     f"{UNKNOWN} 'titel'."),
    ('mutation { createTask(input: {description: "s3cret"}) { id } }', INCOMPLETE),
    ("query ($v: __TypeKind = s3cret) { __typename @skip(if: $v) }",
     "The value does not exist in '__TypeKind' enum."),
    ('query ($v: __TypeKind = "s3cret") { __typename @skip(if: $v) }',
     "Enum '__TypeKind' cannot represent non-enum value."),
    ('{ task("s3cret Int \\"5551234") { id } }', f"{NOT_A_NAME} String."),
    ('{ task("""s3cret Int \'5551234\'""") { id } }', f"{NOT_A_NAME} BlockString."),
    ("{ task(id: [] 5551234) { id } }", f"{NOT_A_NAME} Int."),
    ("{ task(5551234.5) { id } }", f"{NOT_A_NAME} Float."),
    ('"s3cret" "s3cret"', "Syntax Error: Unexpected String."),
    ('{ task(id: "s3cret) { id } }', "Syntax Error: Unterminated string."),
    ('{ task(id: "\\us3cr") { id } }', BAD_ESCAPE),
    ('{ task(id: "\\u{5551234}") { id } }', BAD_ESCAPE),
    ('{ task(id: "\\s3cret") { id } }', "Syntax Error: Invalid character escape sequence."),
    ("{ task(id: .5551234) { id } }",
     "Syntax Error: Invalid number, expected digit before '.'."),
    ("{ task(id: 's3cret') { id } }", "Syntax Error: Unexpected single quote character ('), "
     'did you mean to use a double quote (")?'),
    ("{ task(id: tok-s3cret) { id } }",
     "Syntax Error: Invalid number, expected digit but got: 's'."),
    (f"{{ {'x' * 9000} }}", f"Cannot query field '{'x' * 60}…' on type 'Query'."),
    ("{ a: task(id: s3cret) { id } a: task(id: s4cret) { id } }", "Fields 'a' conflict because "
     "they have differing arguments. Use different aliases on the fields to fetch both if this "
     "was intentional."),
]  # fmt: skip

MESSAGES: list[tuple[dict[str, Any], str]] = [
    *(({"query": document, "variables": {"v": value}}, f"Variable '$v' has invalid value{message}")
      for document, value, message in MESSAGES_ABOUT_VARIABLES),
    *(({"query": document}, message) for document, message in MESSAGES_ABOUT_DOCUMENTS),
    ({"query": CREATE, "variables": {}}, "Variable '$v' has invalid value: Expected a value of "
     "non-null type 'CreateTaskInput!' to be provided."),
    ({"query": "query A { __typename }", "operationName": "s3cret"},
     "The document has no operation of the given name."),
]  # fmt: skip

UNSPEAKABLE = re.compile(
    r"s3cret|s4cret|5551234|\b(?:None|True|False|sys|Undefined)\b|Traceback|error '|[fF]ound:"
)


@pytest.mark.parametrize(("sent", "message"), MESSAGES)
async def test_a_message_is_a_sentence_without_the_value_it_is_about(
    sent: dict[str, Any], message: str, production: httpx.AsyncClient
) -> None:
    response = await production.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    messages = [error["message"] for error in response.json()["errors"]]
    assert message in messages
    assert not [each for each in messages if not each.endswith((".", "?"))]
    assert not UNSPEAKABLE.search(response.text)


@pytest.mark.parametrize(("sent", "message"), MESSAGES)
async def test_in_development_the_same_messages_have_suggestions(
    sent: dict[str, Any], message: str, ada_client: httpx.AsyncClient
) -> None:
    response = await ada_client.post("/graphql", json=sent, headers={"Accept": GRAPHQL})

    messages = [error["message"] for error in response.json()["errors"]]
    assert message in [re.sub(r"(?<=\.) Did you mean .*\?$", "", each) for each in messages]
    assert not UNSPEAKABLE.search(response.text)


async def test_production_has_no_page_for_browsers(production: httpx.AsyncClient) -> None:
    page = await production.get("/graphql", headers={"Accept": "text/html, */*;q=0.8"})
    asset = await production.get("/graphql/assets/LICENSES.txt")

    assert (page.status_code, asset.status_code) == (400, 404)
