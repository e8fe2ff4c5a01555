"""The compiled executor gives the bytes, errors and order of stock."""

import asyncio
import datetime as dt
from typing import Any

import pytest
import strawberry
from strawberry.extensions import QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graphql_schema.compiled import (
    Leaf,
)
from graphql_schema.compiled import executor as executor_module
from tests.compiled.books import (
    ENGINE,
    MOMENT,
    SCHEMA,
    Query,
    book,
    compiled,
    rfc3339,
    run,
)


async def test_plain_data_becomes_the_bytes_asked_for() -> None:
    text = "{ shelf { books { number: id title __typename } count } }"

    response = await ENGINE.prepare(text).operation().bind().execute([book(1), book(2)])

    assert response.errors == []
    assert response.data == (
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
    response = await ENGINE.prepare("{ shelf { books { id } } }").operation().bind().execute([None])

    assert response.data == b"null"
    assert response.errors[0].path == ["shelf", "books", 0]


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
    responses = [await run(text, [book(1)], c=value) for value in (True, False, True)]

    assert [list(data["shelf"]["books"][0]) for data, _ in responses] == [
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
    response = await ENGINE.prepare("{ any }").operation().bind().execute(value)

    assert response.data == expected


async def test_a_lone_surrogate_in_plain_data_is_escaped() -> None:
    text = "{ shelf { books { title } } }"

    response = await ENGINE.prepare(text).operation().bind().execute([book(1, title="\ud800")])

    assert response.data == b'{"shelf":{"books":[{"title":"\\ud800"}]}}'


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


async def test_errors_of_one_request_do_not_reach_another() -> None:
    text = "{ fails }"
    responses = await asyncio.gather(*(run(text) for _ in range(5)))

    assert [len(errors) for _, errors in responses] == [1] * 5
