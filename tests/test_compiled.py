"""What the compiled engine promises, one promise a test; see the fuzzer for the rest."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import (
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationType,
    get_introspection_query,
)
from strawberry.extensions import QueryDepthLimiter
from strawberry.permission import BasePermission
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graphql_schema.compiled import (
    CompiledSchema,
    ConstantSize,
    DeclaredSize,
    Leaf,
    Limits,
    RequestRejected,
    Stage,
    list_fields,
)
from graphql_schema.compiled import executor as executor_module
from graphql_schema.compiled.cache import Cache

UTC = dt.UTC
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def rfc3339(value: dt.datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Never(BasePermission):
    message = "not you"

    def has_permission(self, source: Any, info: strawberry.Info, **kwargs: Any) -> bool:
        return False


@strawberry.type
class Book:
    id: strawberry.ID
    title: str
    pages: int | None
    printed: dt.datetime
    sequel: "Book | None"

    @strawberry.field
    async def loud(self, times: int = 1) -> str:
        return self.title.upper() * times

    @strawberry.field
    def broken(self) -> str:
        raise LookupError(f"no {self.title}")

    secret: str | None = strawberry.field(permission_classes=[Never])


@strawberry.type
class Shelf:
    books: list[Book]
    maybe_books: list[Book | None]

    @strawberry.field
    async def count(self) -> int:
        return len(self.books)


@strawberry.input
class NewBook:
    title: str
    pages: int | None = None


@strawberry.type
class Query:
    @strawberry.field
    async def shelf(self, info: strawberry.Info, first: int = 2) -> Shelf:
        books = info.context[:first]
        return SimpleNamespace(books=books, maybe_books=books)  # type: ignore[return-value]

    @strawberry.field
    async def book(self, info: strawberry.Info, id: strawberry.ID) -> Book | None:
        return next((book for book in info.context if str(book.id) == id), None)

    @strawberry.field
    async def fails(self) -> str | None:
        raise ValueError("on purpose")

    @strawberry.field
    async def any(self, info: strawberry.Info) -> JSON | None:
        return info.context  # type: ignore[no-any-return]

    @strawberry.field
    async def call(self, info: strawberry.Info, name: str) -> str:
        answer: str = await info.context(name)
        return answer


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add(self, new: NewBook) -> str | None:
        return f"{new.title}, {new.pages} pages"

    @strawberry.mutation
    async def call(self, info: strawberry.Info, name: str) -> str | None:
        answer: str = await info.context(name)
        return answer


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self) -> AsyncGenerator[int, None]:
        yield 1


SCALAR = strawberry.scalar(
    name="DateTime", serialize=rfc3339, parse_value=dt.datetime.fromisoformat
)
SCHEMA = strawberry.Schema(
    Query, Mutation, config=StrawberryConfig(scalar_map={dt.datetime: SCALAR})
)
DATE_TIME = Leaf(
    dt.datetime, rfc3339, as_is="{0}.microsecond and {0}.tzinfo is UTC", names={"UTC": UTC}
)


def declared(schema: strawberry.Schema) -> dict[str, DeclaredSize]:
    """A size for each list field of a schema."""
    return dict.fromkeys(list_fields(schema._schema), ConstantSize(1))


def compiled(schema: strawberry.Schema, **options: Any) -> CompiledSchema:
    return CompiledSchema(schema, list_sizes=declared(schema), **options)


ENGINE = compiled(SCHEMA, leaves={"DateTime": DATE_TIME})


def book(number: int, **changes: Any) -> Any:
    fields: dict[str, Any] = {"id": number, "title": f"Book {number}", "pages": 9, "secret": "x"}
    fields |= {"printed": MOMENT, "sequel": None}
    return SimpleNamespace(**(fields | changes))


async def run(
    text: str,
    context: Any = None,
    engine: CompiledSchema = ENGINE,
    **variables: Any,
) -> tuple[Any, list[GraphQLError]]:
    answer = await engine.prepare(text).operation().bind(variables).execute(context)
    return json.loads(answer.data), answer.errors


def refusal(text: str, engine: CompiledSchema = ENGINE, **variables: Any) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        engine.prepare(text).operation().bind(variables)
    return caught.value


async def test_plain_data_becomes_the_bytes_asked_for() -> None:
    text = "{ shelf { books { number: id title __typename } count } }"

    answer = await ENGINE.prepare(text).operation().bind().execute([book(1), book(2)])

    assert answer.errors == []
    assert answer.data == (
        b'{"shelf":{"books":[{"number":"1","title":"Book 1","__typename":"Book"},'
        b'{"number":"2","title":"Book 2","__typename":"Book"}],"count":2}}'
    )


@pytest.mark.parametrize(
    "moment",
    [
        MOMENT,
        MOMENT.replace(microsecond=7),
        MOMENT.replace(microsecond=120000),
        MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    ],
)
async def test_a_moment_always_has_six_digits_and_z(moment: dt.datetime) -> None:
    data, _ = await run("{ shelf { books { printed } } }", [book(1, printed=moment)])

    assert data["shelf"]["books"] == [{"printed": rfc3339(moment)}]


@pytest.mark.parametrize(("field", "calls"), [("title", 1), ("loud(times: 2)", 51)])
async def test_only_what_needs_a_resolver_is_executed_as_a_field(
    field: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = []
    stock = StrawberryGraphQLCoreExecutionContext.execute_field

    def count(self: Any, parent: Any, source: Any, *rest: Any) -> Any:
        executed.append(parent.name)
        return stock(self, parent, source, *rest)

    monkeypatch.setattr(StrawberryGraphQLCoreExecutionContext, "execute_field", count)
    text = f"{{ shelf(first: 50) {{ books {{ id title pages {field} }} }} }}"

    data, errors = await run(text, [book(number) for number in range(50)])

    assert not errors
    assert len(data["shelf"]["books"]) == 50
    assert len(executed) == calls


async def test_an_error_in_a_deferred_field_nulls_what_stock_would_null() -> None:
    text = "{ shelf { maybeBooks { id sequel { broken } } } }"
    books = [book(1, sequel=book(3)), book(2)]

    data, errors = await run(text, books)

    assert data["shelf"]["maybeBooks"] == [{"id": "1", "sequel": None}, {"id": "2", "sequel": None}]
    assert errors[0].path == ["shelf", "maybeBooks", 0, "sequel", "broken"]
    assert isinstance(errors[0].original_error, LookupError)


async def test_a_permission_still_decides() -> None:
    data, errors = await run("{ shelf { books { id secret } } }", [book(1)])

    assert data["shelf"]["books"] == [{"id": "1", "secret": None}]
    assert errors[0].message == "not you"


async def test_a_failing_resolver_is_an_error_with_its_cause_and_place() -> None:
    data, errors = await run("{ ok: any fails }", 1)

    assert data == {"ok": 1, "fails": None}
    assert errors[0].formatted == {
        "message": "on purpose",
        "locations": [{"line": 1, "column": 11}],
        "path": ["fails"],
    }
    assert isinstance(errors[0].original_error, ValueError)


async def test_data_is_null_when_nothing_above_may_be() -> None:
    answer = await ENGINE.prepare("{ shelf { books { id } } }").operation().bind().execute([None])

    assert answer.data == b"null"
    assert answer.errors[0].path == ["shelf", "books", 0]


async def test_root_fields_of_a_query_run_side_by_side() -> None:
    started: list[str] = []
    both = asyncio.Event()

    async def meet(name: str) -> str:
        started.append(name)
        if len(started) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 5)
        return name

    data, errors = await run('{ a: call(name: "a") b: call(name: "b") }', meet)

    assert (data, errors) == ({"a": "a", "b": "b"}, [])


async def test_root_fields_of_a_mutation_run_one_after_the_other() -> None:
    log: list[str] = []

    async def note(name: str) -> str:
        log.append(f"{name} starts")
        await asyncio.sleep(0)
        log.append(f"{name} ends")
        return name

    await run('mutation { a: call(name: "a") b: call(name: "b") }', note)

    assert log == ["a starts", "a ends", "b starts", "b ends"]


async def test_cancelling_a_request_cancels_its_resolvers() -> None:
    ended: list[str] = []

    async def hang(name: str) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
        return name

    task = asyncio.ensure_future(run('{ a: call(name: "a") b: call(name: "b") }', hang))
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert sorted(ended) == ["a", "b"]


async def test_an_input_object_reaches_its_resolver() -> None:
    text = "mutation ($new: NewBook!) { add(new: $new) }"

    data, errors = await run(text, new={"title": "x"})

    assert (data, errors) == ({"add": "x, None pages"}, [])


async def test_conditions_select_anew_for_every_value() -> None:
    text = "query ($c: Boolean!) { shelf { books { id title @include(if: $c) } } }"
    answers = [await run(text, [book(1)], c=value) for value in (True, False, True)]

    assert [list(data["shelf"]["books"][0]) for data, _ in answers] == [
        ["id", "title"],
        ["id"],
        ["id", "title"],
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("\ud800", b'{"any":"\\ud800"}'),
        (2**70, b'{"any":1180591620717411303424}'),
        ({"a": "\udfff", "b": [1]}, b'{"any":{"a":"\\udfff","b":[1]}}'),
    ],
)
async def test_what_msgspec_refuses_is_still_json(value: Any, expected: bytes) -> None:
    answer = await ENGINE.prepare("{ any }").operation().bind().execute(value)

    assert answer.data == expected


async def test_a_lone_surrogate_in_plain_data_is_escaped() -> None:
    text = "{ shelf { books { title } } }"

    answer = await ENGINE.prepare(text).operation().bind().execute([book(1, title="\ud800")])

    assert answer.data == b'{"shelf":{"books":[{"title":"\\ud800"}]}}'


@pytest.mark.parametrize(
    ("text", "variables", "cost"),
    [
        ("{ fails }", {}, 1),
        ("{ a: fails b: fails fails }", {}, 3),
        ("{ fails fails }", {}, 1),
        ("{ ...F } fragment F on Query { fails ... { any } }", {}, 2),
        ("{ __typename __schema { queryType { name } } }", {}, 0),
        ("query ($c: Boolean!) { fails @skip(if: $c) any }", {"c": True}, 1),
        ("query ($c: Boolean!) { fails @skip(if: $c) any }", {"c": False}, 2),
        ("query ($c: Boolean = true) { fails @include(if: $c) }", {}, 1),
        ("query ($c: Boolean = true) { fails @include(if: $c) }", {"c": None}, 0),
        ("mutation { a: add(new: {title: 1}) b: add(new: {title: 1}) }", {}, 2),
    ],
)
def test_an_operation_costs_its_root_fields(
    text: str, variables: dict[str, Any], cost: int
) -> None:
    text = text.replace("title: 1", 'title: "x"')

    assert ENGINE.prepare(text).operation().bind(variables).cost == cost


def test_an_operation_knows_its_kind() -> None:
    document = ENGINE.prepare("query Q { fails } mutation M { call(name: 1) }".replace("1", '"x"'))

    assert document.operation("Q").kind is OperationType.QUERY
    assert document.operation("M").kind is OperationType.MUTATION


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("query A { fails } query B { fails }", None, "Must provide operation name if query"),
        ("query A { fails }", "C", "Unknown operation named 'C'."),
        ("query A { fails }", "", "Unknown operation named ''."),
    ],
)
def test_the_operation_must_be_known(text: str, name: str | None, message: str) -> None:
    with pytest.raises(RequestRejected, match=message) as caught:
        ENGINE.prepare(text).operation(name)

    assert caught.value.stage is Stage.OPERATION


def test_subscriptions_are_refused() -> None:
    engine = compiled(strawberry.Schema(Query, subscription=Subscription))

    assert refusal("subscription { ticks }", engine).stage is Stage.OPERATION


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("{", Stage.PARSE),
        ("", Stage.PARSE),
        ("{" * 999, Stage.PARSE),
        ("{ a" * 400, Stage.PARSE),
        ("{ nope }", Stage.VALIDATION),
        ("{ fails(x: 1) }", Stage.VALIDATION),
        ("{ ...A } fragment A on Query { ...A }", Stage.VALIDATION),
    ],
)
def test_a_bad_document_is_refused_at_its_stage(text: str, stage: Stage) -> None:
    assert refusal(text).stage is stage


@pytest.mark.parametrize(
    "variables", [{}, {"id": None}, {"id": []}, {"id": "1", "n": "x"}, {"id": 1.5, "n": 2**40}]
)
async def test_bad_variables_are_refused_as_stock_words_it(variables: dict[str, Any]) -> None:
    text = "query ($id: ID!, $n: Int) { book(id: $id) { loud(times: $n) } }".replace(
        "$n: Int", "$n: Int! = 1"
    )
    stock = await SCHEMA.execute(text, variable_values=variables)

    refused = refusal(text, **variables)

    assert refused.stage is Stage.VARIABLES
    assert [e.formatted for e in refused.errors] == [e.formatted for e in stock.errors or ()]


def test_a_number_too_long_to_print_is_refused() -> None:
    text = "query ($n: Int!) { shelf(first: $n) { count } }"

    assert refusal(text, n=9**5000).stage is Stage.VARIABLES


def chain(count: int, body: str, last: str) -> str:
    links = [
        f"fragment F{n} on Book {{ {body.replace('NEXT', f'...F{n + 1}')} }}" for n in range(count)
    ]
    return " ".join([*links, f"fragment F{count} on Book {{ {last} }}"])


START = "{ shelf { books { ...F0 } } } "
HOSTILE: list[tuple[str, str]] = [
    ("{ shelf { books " + "{ sequel " * 60 + "{ id }" + " }" * 62, "depth"),
    (START + chain(17, "sequel { NEXT } again: sequel { NEXT }", "id"), "depth"),
    (START + chain(17, "NEXT NEXT", "id"), "fields"),
    (START + chain(30, "NEXT NEXT", "id"), "definitions"),
    (START + chain(6, "a: sequel { NEXT } b: sequel { NEXT }", "id"), "aliases"),
    ("{ " + " ".join(f"a{n}: fails" for n in range(51)) + " }", "aliases"),
    ("{ shelf { books { " + "loud(times: 1) " * 160 + "} } }", "repeats"),
    ("{ " + "shelf { books { id } } " * 120 + "}", "repeats"),
    ("{ fails " + "@include(if: true) " * 140 + "}", "directives"),
    ("{ fails " + "@no " * 450 + "}", "directives"),
    ("{ " + "fails " * 1000 + "}", "tokens"),
    ("#\n" * 5000 + "{ fails }", "tokens"),
    (" " * 20_000 + "{ fails }", "length"),
    (
        "{ __schema { types { fields { args { type { fields { args { type { name kind fields"
        " { name } } } } } } } } } }",
        "introspection",
    ),
]
ANNOYING = [
    "{ shelf { books { ...F0 } } } "
    + " ".join(
        f"fragment F{n} on Book {{ " + " ".join(f"...F{m}" for m in range(19)) + " }"
        for n in range(19)
    ),
    "{ shelf { books { ...A } } } fragment A on Book { sequel { ...B } }"
    " fragment B on Book { sequel { ...A } }",
    "{ shelf { books { " + "loud(times: 1) " * 62 + "} } }",
    "{ " + " ".join(f"nope{n}" for n in range(900)) + " }",
    "{ " + " ".join("x" * 180 + str(n) for n in range(100)) + " }",
    "query (" + " ".join(f"$v{n}: Int" for n in range(240)) + ") { fails }",
    "{ shelf(first: " + "[" * 190 + "]" * 190 + ") { count } }",
    "{ shelf(first: " + "[" * 450 + "]" * 450 + ") { count } }",
    "{ fails " + "@include(if: true) " * 50 + "}",
    "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
    "{ __schema { types { ...T } } } fragment T on __Type { ofType { ...T } }",
    "{ __schema { types " + "{ ofType " * 150 + "{ name }" + " }" * 152,
    " ".join(f"query Q{n} {{ ...F }}" for n in range(19))
    + " fragment F on Query { "
    + "fails " * 14
    + "}",
]


@pytest.mark.parametrize(("text", "limit"), HOSTILE)
def test_a_document_over_a_limit_is_refused_with_the_limit(text: str, limit: str) -> None:
    refused = refusal(text)

    assert refused.stage is Stage.LIMITS
    assert str(refused) == f"Document exceeds the limit on {limit} ({getattr(Limits(), limit)})."
    assert refused.errors[0].extensions == {"limit": limit, "maximum": getattr(Limits(), limit)}


@pytest.mark.parametrize("text", [text for text, _ in HOSTILE] + ANNOYING)
def test_no_document_takes_long_to_prepare(text: str) -> None:
    engine = compiled(SCHEMA, max_kept_bytes=0)

    def attempt() -> float:
        start = time.process_time()
        with suppress(RequestRejected):
            engine.prepare(text)
        return time.process_time() - start

    # The best of three: what is measured is the work, not the machine's other tenants.
    assert min(attempt() for _ in range(3)) < 0.1


@pytest.mark.parametrize(
    "text",
    [
        get_introspection_query(),
        get_introspection_query(
            descriptions=True,
            specified_by_url=True,
            directive_is_repeatable=True,
            schema_description=True,
            input_value_deprecation=True,
        ),
    ],
)
async def test_tools_may_introspect(text: str) -> None:
    data, errors = await run(text)

    assert errors == []
    assert data == json.loads(json.dumps((await SCHEMA.execute(text)).data))


def test_introspection_can_be_ruled_out() -> None:
    engine = compiled(SCHEMA, rules=[NoSchemaIntrospectionCustomRule])

    assert refusal("{ __schema { description } }", engine).stage is Stage.VALIDATION
    assert engine.prepare("{ __typename }")


@pytest.mark.parametrize("hide", [True, False])
def test_suggestions_can_be_hidden(hide: bool) -> None:
    engine = compiled(SCHEMA, hide_suggestions=hide)

    assert ("Did you mean" in str(refusal("{ shelv }", engine))) is not hide
    text = "mutation ($new: NewBook!) { add(new: $new) }"
    said = str(refusal(text, engine, new={"title": "x", "page": 1}))
    assert ("Did you mean" in said) is not hide


@pytest.mark.parametrize(
    "arguments",
    [
        {"extensions": [lambda: QueryDepthLimiter(3)]},
        {"execution_context_class": type("Other", (StrawberryGraphQLCoreExecutionContext,), {})},
        {"config": StrawberryConfig(enable_experimental_incremental_execution=True)},
    ],
)
def test_machinery_that_would_not_run_is_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A compiled schema cannot have"):
        compiled(strawberry.Schema(Query, **arguments))


def test_a_leafs_constants_cannot_shadow_the_generated_code() -> None:
    with pytest.raises(ValueError, match="cannot name a constant"):
        Leaf(int, str, names={"_v1": 1})


async def test_a_selection_that_cannot_be_compiled_is_answered_by_stock(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(executor_module, "compile_selection", fail)

    data, errors = await run("{ shelf { books { id } } }", [book(1)], compiled(SCHEMA))

    assert (data, errors) == ({"shelf": {"books": [{"id": "1"}]}}, [])
    assert "could not be compiled" in caplog.text


def test_a_document_is_prepared_once() -> None:
    engine = compiled(SCHEMA)

    assert engine.prepare("{ fails }") is engine.prepare("{ fails }")


def test_documents_are_dropped_when_they_weigh_too_much() -> None:
    engine = compiled(SCHEMA, max_kept_bytes=50_000)
    first = engine.prepare("{ n: fails }")
    for number in range(50):
        engine.prepare(f"{{ n{number}: fails }}")

    assert engine.prepare("{ n: fails }") is not first
    assert 1 < len(engine._documents) < 10
    assert 0 < engine._documents.weight <= 50_000


async def test_a_selection_weighs_with_its_document() -> None:
    engine = compiled(SCHEMA)
    text = "query ($c: Boolean!) { shelf { books { id title @include(if: $c) } } }"
    engine.prepare(text)
    weights = [engine._documents.weight]

    for c in (True, False, True):
        await run(text, [book(1)], engine, c=c)
        weights.append(engine._documents.weight)

    assert weights[0] < weights[1] < weights[2] == weights[3]


async def test_a_document_that_grows_pushes_others_out() -> None:
    engine = compiled(SCHEMA, max_kept_bytes=150_000)
    growing = "{ shelf { books { id title } } }"
    others = [f"{{ n{number}: fails }}" for number in range(15)]
    for text in (*others, growing):
        engine.prepare(text)
    kept = sum(map(engine.is_kept, others))

    await run(growing, [book(1)], engine)

    assert engine.is_kept(growing)
    assert sum(map(engine.is_kept, others)) < kept
    assert engine._documents.weight <= 150_000


async def test_one_operation_has_so_many_selections_and_no_more() -> None:
    engine = compiled(SCHEMA)
    names = "abcdef"
    conditions = " ".join(f"{name}: id @include(if: ${name})" for name in names)
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    text = f"query ({declared}) {{ shelf {{ books {{ title {conditions} }} }} }}"

    for number in range(64):
        chosen = {name: bool(number >> bit & 1) for bit, name in enumerate(names)}
        data, _ = await run(text, [book(1)], engine, **chosen)
        assert set(data["shelf"]["books"][0]) == {"title", *(n for n in names if chosen[n])}

    operation = engine.prepare(text).operation()
    assert len(operation._selections) == 16


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1, 1)
    cache.put("b", 2, 1)
    cache.get("a")
    cache.put("c", 3, 1)
    cache.put("huge", 4, 3)
    cache.grow("gone", 1)

    assert [cache.get(key) for key in ("a", "b", "c", "huge")] == [1, None, 3, None]
    assert cache.weight == 2

    cache.grow("c", 1)

    assert (cache.get("a"), cache.get("c"), cache.weight) == (None, 3, 2)

    cache.grow("c", 1)

    assert (len(cache), cache.weight) == (0, 0)


async def test_errors_of_one_request_do_not_reach_another() -> None:
    text = "{ fails }"
    answers = await asyncio.gather(*(run(text) for _ in range(5)))

    assert [len(errors) for _, errors in answers] == [1] * 5
