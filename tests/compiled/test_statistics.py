"""What the compiled executor counts: documents from the cache, and values that stock completed."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import strawberry

from graphql_schema.compiled import CompiledSchema, executor
from graphql_schema.compiled.document import MAX_SELECTIONS
from tests.compiled.books import ENGINE, SCHEMA, book, compiled, run


@strawberry.type
class Apple:
    weight: int


@strawberry.type
class Pear:
    colour: str


@strawberry.type
class Basket:
    owner: str
    fruit: Annotated[Apple | Pear, strawberry.union("Fruit")]


@strawberry.type
class Query:
    @strawberry.field
    def basket(self) -> Basket:
        return Basket(owner="ada", fruit=Apple(weight=3))


def engine_of_baskets() -> CompiledSchema:
    return CompiledSchema(strawberry.Schema(Query))


async def response_of(engine: CompiledSchema, text: str) -> bytes:
    return (await engine.prepare(text).operation().bind().execute()).data


async def test_plain_data_is_no_fallback() -> None:
    before = ENGINE.statistics.fallbacks

    await run("{ shelf { books { id title loud(times: 2) } } }", [book(1), book(2)])

    assert ENGINE.statistics.fallbacks == before


async def test_a_field_whose_type_is_not_compiled_is_a_fallback_each_time() -> None:
    engine = engine_of_baskets()
    text = "{ basket { owner fruit { ... on Apple { weight } } } }"

    assert await response_of(engine, text) == b'{"basket":{"owner":"ada","fruit":{"weight":3}}}'
    await response_of(engine, text)

    assert engine.statistics.fallbacks == 2


async def test_a_value_of_an_unknown_type_is_a_fallback() -> None:
    before = ENGINE.statistics.fallbacks

    data, errors = await run("{ shelf { books { title } } }", [book(1, title=Title("x"))])

    assert (data, errors) == ({"shelf": {"books": [{"title": "x"}]}}, [])
    assert ENGINE.statistics.fallbacks > before


class Title(str):
    """No plain string."""


async def test_a_selection_that_cannot_be_compiled_is_a_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(executor, "compile_selection", fail)
    engine = compiled(SCHEMA)

    await run("{ shelf { books { id } } }", [book(1)], engine)

    assert engine.statistics.fallbacks > 0


async def test_more_selections_than_are_kept_are_fallbacks() -> None:
    names = "abcde"
    parameters = ", ".join(f"${name}: Boolean!" for name in names)
    fields = " ".join(f"{name}: owner @include(if: ${name})" for name in names)
    engine = engine_of_baskets()
    text = f"query ({parameters}) {{ basket {{ owner {fields} }} }}"

    for number in range(MAX_SELECTIONS + 3):
        values: dict[str, Any] = {name: bool(number >> n & 1) for n, name in enumerate(names)}
        await engine.prepare(text).operation().bind(values).execute()

    assert engine.statistics.fallbacks == 3


async def test_documents_are_counted_by_whether_the_cache_had_them() -> None:
    engine = engine_of_baskets()

    for text in ("{ basket { owner } }", "{ basket { owner } }", "{ basket { a: owner } }"):
        engine.find_kind(text)
        engine.prepare(text)

    assert (engine.statistics.hits, engine.statistics.misses) == (1, 2)
    assert engine.cached_documents == 2
    assert engine.cached_bytes > 0
