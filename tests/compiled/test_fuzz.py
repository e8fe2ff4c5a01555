"""Random documents and dirty data through the stock executor and the compiled one.

Whatever is asked and whatever resolvers return, the two must agree on data, errors and how
often each resolver ran. `make test-slow` does this with more documents (COMPILED_FUZZ_DOCUMENTS).
"""

import dataclasses
import gc
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from graphql import (
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInt,
    NameNode,
    OperationDefinitionNode,
    Visitor,
    parse,
    print_ast,
    visit,
)
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import Path

from graphql_schema.compiled import (
    CompiledSchema,
)
from graphql_schema.compiled import document as document_module
from graphql_schema.compiled import executor as executor_module
from graphql_schema.compiled import leaves as leaves_module
from graphql_schema.compiled import resolvers as resolvers_module
from graphql_schema.compiled.executor import CompiledExecutor, DeferredFields
from graphql_schema.compiled.selections import DeferredField
from graphql_schema.compiled.usages import Usages
from tests.compiled.both_executors import (
    RUNS,
    agree,
    describe,
    differences,
    seen,
    through_compiled,
    through_stock,
)
from tests.compiled.random_documents import Writer, variables
from tests.compiled.random_schema import LEAVES, LIST_SIZES, SCHEMA, WIDE, Dirt, Made, World

MANY = int(os.environ.get("COMPILED_FUZZ_DOCUMENTS", "300"))
GROUPS = 15

# Coroutines whose parents were cancelled before they began: stock leaves them behind too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collect_garbage() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("documents", [60, pytest.param(MANY, marks=pytest.mark.slow)])
async def test_both_executors_agree_on_everything(documents: int) -> None:
    seen.clear()

    differing = [difference async for difference in differences(range(documents))]

    assert not differing, f"{len(differing)} differences, the first:\n{differing[0]}"
    runs = documents * RUNS
    assert seen["refused"] < runs / 3, seen
    assert seen["with errors"] > runs / 20, seen
    assert seen["without errors"] > runs / 4, seen
    assert seen["deferred"] > runs / 10, seen
    assert seen["plain"] > runs / 10, seen


class Renamed(Visitor):
    """Gives the operations and fragments of a document other names."""

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self.suffix = suffix

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> Any:
        return dataclasses.replace(node, name=NameNode(value=f"Op{self.suffix}"))

    def enter_fragment_definition(self, node: FragmentDefinitionNode, *_: Any) -> Any:
        return dataclasses.replace(node, name=NameNode(value=node.name.value + self.suffix))

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: Any) -> Any:
        return dataclasses.replace(node, name=NameNode(value=node.name.value + self.suffix))


OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "X",
        "query X($a: Int!, $n: Boolean!, $w: ID) {"
        " maybe @skip(if: $n) { computed(by: $a) } echo(ids: [$w]) }",
        {"a": 3, "n": False, "w": "7"},
    ),
    (
        "Y",
        "query Y($a: Window, $b: [Pair!], $w: [ID!]!) {"
        " echo(window: $a, pairs: $b) page(ids: $w) { totalCount } }",
        {"a": {"start": 1}, "b": [{"left": 1, "right": None}], "w": ["1"]},
    ),
    (
        "Z",
        "mutation Z($a: Window!, $b: Int!) {"
        " touch(window: $a) { id } mustTouch(number: $b) { title } }",
        {"a": {"pair": {"left": 1, "right": 2}}, "b": 1},
    ),
]
"""Operations whose variables have the names of the generated ones, and other types."""


async def test_operations_of_one_document_do_not_disturb_each_other() -> None:
    engine = CompiledSchema(SCHEMA, leaves=LEAVES, limits=WIDE, list_sizes=LIST_SIZES)
    World.suspends, World.error = False, None
    ran_to_the_end = 0
    for seed in range(GROUPS):
        rng = random.Random(seed)
        parts = [
            print_ast(visit(parse(Writer(rng).document()), Renamed(suffix))) for suffix in "AB"
        ]
        text = " ".join([*parts, *(other for _, other, _ in OTHERS)])
        World.items = [Made(rng, Dirt(rng, 0)).item() for _ in range(3)]
        generated = [(name, "", variables(rng)) for name in ("OpA", "OpB")]
        for name, _, values in generated + OTHERS:
            stock = await through_stock(text, values, name)
            compiled = await through_compiled(engine, text, values, name)
            assert agree(stock, compiled), describe(seed, text, values, stock, compiled)
            ran_to_the_end += bool(compiled.ran)
    assert ran_to_the_end > 2 * GROUPS


def accept_any_int(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(leaves_module._BUILT_IN, GraphQLInt, lambda value: ["pass"])


def forget_conditions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(document_module, "find_usages", lambda *_: Usages())


def keep_the_object_around_an_error(patch: pytest.MonkeyPatch) -> None:
    def propagate(
        self: DeferredFields, field: DeferredField, path: Path, error: GraphQLError
    ) -> None:
        self._executor.collected_errors.add(error, path)

    patch.setattr(DeferredFields, "_propagate", propagate)


def run_stock_after_the_deferred_fields(patch: pytest.MonkeyPatch) -> None:
    resolve = CompiledExecutor._resolve_deferred

    def resolve_and_return_nothing(self: CompiledExecutor, *args: Any) -> None:
        resolve(self, *args)

    patch.setattr(CompiledExecutor, "_resolve_deferred", resolve_and_return_nothing)


def share_the_errors(patch: pytest.MonkeyPatch) -> None:
    errors = CollectedErrors()
    patch.setattr(executor_module, "CollectedErrors", lambda: errors)


def pass_inputs_on_unconverted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resolvers_module, "_builder", lambda *_: lambda value: value)


@pytest.mark.parametrize(
    ("fault", "near"),
    [
        (accept_any_int, 45),
        (forget_conditions, 0),
        (keep_the_object_around_an_error, 50),
        (run_stock_after_the_deferred_fields, 0),
        (share_the_errors, 0),
        (pass_inputs_on_unconverted, 125),
    ],
)
async def test_a_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)

    assert await anext(differences(range(near, near + 300)), None)
