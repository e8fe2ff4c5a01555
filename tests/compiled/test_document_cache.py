"""Prepared documents and their selections are cached, up to a weight."""

from graphql_schema.compiled.cache import Cache
from tests.compiled.books import SCHEMA, book, compiled, run


def test_a_document_is_prepared_once() -> None:
    engine = compiled(SCHEMA)

    assert engine.prepare("{ fails }") is engine.prepare("{ fails }")


def test_documents_are_dropped_when_they_weigh_too_much() -> None:
    engine = compiled(SCHEMA, max_cached_bytes=50_000)
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
    engine = compiled(SCHEMA, max_cached_bytes=150_000)
    growing = "{ shelf { books { id title } } }"
    others = [f"{{ n{number}: fails }}" for number in range(15)]
    for text in (*others, growing):
        engine.prepare(text)
    kept = sum(map(engine.is_cached, others))

    await run(growing, [book(1)], engine)

    assert engine.is_cached(growing)
    assert sum(map(engine.is_cached, others)) < kept
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
