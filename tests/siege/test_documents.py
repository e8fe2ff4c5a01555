"""What a document leaves behind, and what it costs before anything is paid."""

from __future__ import annotations

import gc
import itertools
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from fastapi import FastAPI
from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, parse

from api.http.json import encode_json
from api.rate_limit.response_slots import RequestSlots, ResponseSlots
from api.request import RequestContext, set_context
from api.settings import Settings
from api.state import State
from graphql_schema.compiled import CompiledSchema, RequestRejected, Stage
from graphql_schema.compiled.schema import CACHED_BYTES
from graphql_schema.context import Context
from graphql_schema.errors import rejection_errors
from graphql_schema.schema import engine
from persistence.viewer import Viewer
from tests.siege.documents import CONDITIONS, KEPT, VALUES, WORST, Generator

MANY = int(os.environ.get("SIEGE_DOCUMENTS", "200"))
NewContext: TypeAlias = Callable[[], Context]


def operations(node: DocumentNode) -> list[str | None]:
    """The names of a document's operations."""
    operations = [each for each in node.definitions if isinstance(each, OperationDefinitionNode)]
    return [each.name.value if each.name else None for each in operations]


@pytest.fixture
def documents(settings: Settings) -> CompiledSchema:
    """The app's engine, with nothing in it."""
    return engine(settings)


@pytest.fixture
def new_context(app: FastAPI) -> NewContext:
    """What each request of someone without tasks brings."""
    state: State = app.state.twofold
    viewer = Viewer("siege", datetime.now(UTC))
    return lambda: Context(viewer, state.database(), state.budget, 1000, 24, None, {})


async def execute(documents: CompiledSchema, text: str, new_context: NewContext) -> None:
    """Run every operation of a document, with every combination of its conditions."""
    conditions = CONDITIONS if "$a: Boolean!" in text else ""
    for name in operations(parse(text)):
        for chosen in itertools.product([True, False], repeat=len(conditions)):
            values = VALUES | dict(zip(conditions, chosen, strict=True))
            call = documents.prepare(text).operation(name).bind(values)
            await call.execute(new_context())


# Memory


@pytest.mark.parametrize("shape", KEPT)
@pytest.mark.slow
async def test_a_document_weighs_at_least_what_it_takes(
    shape: str, documents: CompiledSchema, new_context: NewContext
) -> None:
    write = KEPT[shape]
    await execute(documents, write("warm"), new_context)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(5):
            await execute(documents, write(f"n{number}"), new_context)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
        weight = documents._documents.weight
        documents._documents = type(documents._documents)(0)
        gc.collect()
        freed = taken - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    # Five of the six were made while it was watched.
    counted = weight * 5 / 6
    print(f"{shape:32} {freed / 5000:8.1f} KB measured, {counted / 5000:8.1f} KB estimated")
    assert freed <= counted <= 25 * freed


def traced(work: Callable[[], Any]) -> int:
    """Bytes that some work leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_conditions_beyond_what_is_kept_leave_nothing(documents: CompiledSchema) -> None:
    names = [f"c{number}" for number in range(10)]
    declared = " ".join(f"${name}: Boolean!" for name in names)
    aliases = " ".join(f"{name}: title @include(if: ${name})" for name in names)
    text = f"query ({declared}) {{ tasks {{ nodes {{ id {aliases} }} }} }}"

    def bind(first: int, last: int) -> None:
        operation = documents.prepare(text).operation()
        for number in range(first, last):
            operation.bind({name: bool(number >> n & 1) for n, name in enumerate(names)})

    bind(0, 1)
    kept = traced(lambda: bind(1, 16))
    # What binding leaves, it leaves each time; what another thread allocates, once.
    after = min(traced(partial(bind, 16, 1016)) for _ in range(5))

    assert after < kept / 5


async def test_an_executor_is_not_changed_by_its_requests(
    documents: CompiledSchema, new_context: NewContext
) -> None:
    text = KEPT["conditions"]("Q")
    executor = documents.prepare(text).operation("Q")._executor

    def sizes() -> dict[str, int]:
        return {
            name: len(value)
            for name, value in vars(executor).items()
            if isinstance(value, dict | list | set)
        }

    before = sizes()

    await execute(documents, text, new_context)

    assert sizes() == before


def resident() -> int:
    """The process's memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def grow(
    documents: CompiledSchema, new_context: NewContext, count: int, first: int = 0
) -> None:
    shapes = list(KEPT.values())
    for number in range(first, first + count):
        text = shapes[number % len(shapes)](f"n{number}")
        with suppress(RequestRejected):
            documents.prepare(Generator(number).document())
        await execute(documents, text, new_context)


@pytest.mark.slow
async def test_memory_is_flat_when_the_cache_is_full(
    settings: Settings, new_context: NewContext
) -> None:
    documents = engine(settings)
    documents._documents.capacity = 2 * 2**20
    await grow(documents, new_context, 16)
    gc.collect()

    tracemalloc.start()
    try:
        await grow(documents, new_context, 16, first=16)
        gc.collect()
        warm = tracemalloc.get_traced_memory()[0]
        await grow(documents, new_context, 16, first=32)
        gc.collect()
        later = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert documents._documents.weight <= 2 * 2**20
    assert later < warm + 2**19


LONG = int(os.environ.get("SIEGE_LONG_DOCUMENTS", "20000"))


@pytest.mark.drill
@pytest.mark.timeout(3600)
async def test_memory_is_flat_over_twenty_thousand_documents(
    documents: CompiledSchema, new_context: NewContext
) -> None:
    before = resident()
    await grow(documents, new_context, LONG // 10)
    warm = resident()
    await grow(documents, new_context, LONG * 9 // 10, first=LONG // 10)
    after = resident()

    sizes = [size >> 20 for size in (before, warm, after)]
    print(f"RSS in MB at first, after a tenth, at the end: {sizes}")
    assert documents._documents.weight <= CACHED_BYTES
    assert warm - before < 3 * CACHED_BYTES
    assert after - warm < CACHED_BYTES / 4


# Time


def new_scope() -> dict[str, Any]:
    """As much of a request as a refusal needs."""
    scope = {"path": "/graphql"}
    set_context(scope, RequestContext("x", RequestSlots(ResponseSlots())))
    return scope


def loop() -> float:
    """Seconds of CPU that a fixed piece of Python takes: about 4 ms on a machine of 2024."""
    start = time.process_time()
    total = 0
    for number in range(60_000):
        total += number * number % 7
    return time.process_time() - start


def preparation(documents: CompiledSchema, text: str, name: str | None) -> float:
    """Seconds of CPU until a document has a price, or a response that it is refused."""
    documents._documents = type(documents._documents)(0)
    scope = new_scope()
    start = time.process_time()
    try:
        documents.find_kind(text, name)
        _ = documents.prepare(text).operation(name).bind(VALUES).cost
    except RequestRejected as refused:
        encode_json(rejection_errors(scope, refused))
    return time.process_time() - start


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Measures the work on the documents, not on all that the process has."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


MOST = 5
"""Times the control; 4 are the 15 ms that a document may take before it is paid for."""


def ratio(documents: CompiledSchema, text: str, name: str | None, attempts: int) -> float:
    """How many times as long as the control the preparation takes, at best."""
    pairs = [(preparation(documents, text, name), loop()) for _ in range(attempts)]
    return min(taken for taken, _ in pairs) / min(control for _, control in pairs)


def is_quick(documents: CompiledSchema, text: str, name: str | None) -> bool:
    """Whether it is within the bound; measured again before it is said not to be."""
    return any(ratio(documents, text, name, attempts) < MOST for attempts in (1, 5, 15))


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("shape", WORST)
def test_the_worst_documents_take_no_longer_than_the_bound(
    shape: str, documents: CompiledSchema
) -> None:
    assert is_quick(documents, WORST[shape], None)


@pytest.mark.usefixtures("_no_collector")
def test_no_generated_document_takes_longer_than_the_bound(documents: CompiledSchema) -> None:
    slow = [
        seed for seed in range(MANY) if not is_quick(documents, Generator(seed).document(), "A")
    ]

    assert not slow


def test_many_values_in_variables_take_no_longer_than_the_bound(documents: CompiledSchema) -> None:
    text = "mutation ($ids: [ID!]!) { deleteTasks(ids: $ids) { notFound } }"
    operation = documents.prepare(text).operation()

    def bind(values: list[Any]) -> float:
        start = time.process_time()
        with suppress(RequestRejected):
            operation.bind({"ids": values})
        return time.process_time() - start

    for item in (1, "1", None, {"a": 1}, [[1]], 1.5):
        for count in (1_000, 4_900, 30_000):
            taken = min(bind([item] * count) for _ in range(5))
            assert taken < MOST * min(loop() for _ in range(5)), (item, count)
    operation.bind({"ids": ["1"] * 1_000, "unknown": [1] * 30_000})
    with pytest.raises(RequestRejected, match="values in variables") as refused:
        operation.bind({"ids": ["1"] * 6_000})
    assert refused.value.stage is Stage.LIMITS


# What is said


@pytest.mark.parametrize("shape", WORST)
def test_a_refusal_is_short_whatever_is_wrong(shape: str, documents: CompiledSchema) -> None:
    errors: list[GraphQLError] = []
    body = b""
    try:
        documents.prepare(WORST[shape])
    except RequestRejected as refused:
        errors = refused.errors
        body = encode_json(rejection_errors(new_scope(), refused))

    assert len(errors) <= 5
    assert len(body) < 10_000


def test_rewording_takes_as_long_as_the_message_is() -> None:
    def reword(size: int) -> float:
        value = "unknown field 'a', found: Did you mean cannot represent " * (size // 55)
        names = " ".join(["x" * 59] * (size // 60))
        refused = [
            RequestRejected(Stage.VALIDATION, [GraphQLError(text)])
            for text in (value, names, "x" * size, f"Value '{value}", "Syntax Error: " + value)
        ]
        scope = new_scope()
        start = time.process_time()
        for each in refused:
            rejection_errors(scope, each)
        return time.process_time() - start

    short, long = (min(reword(size) for _ in range(5)) for size in (20_000, 320_000))

    assert long < 40 * short
