"""Compares the CPU of compiled GraphQL operations with graphql-core's, without HTTP.

    python -m benchmarks.compiled

Its schema is its own: ``graphql_schema.compiled`` knows nothing of tasks.
"""

import asyncio
import datetime as dt
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import strawberry
from strawberry.schema.config import StrawberryConfig

from graphql_schema.compiled import CompiledSchema, ConstantSize, Leaf, list_fields

UTC = dt.UTC


def rfc3339(value: dt.datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


DATE_TIME = Leaf(
    dt.datetime, rfc3339, as_is="{0}.microsecond and {0}.tzinfo is UTC", names={"UTC": UTC}
)


class Row(msgspec.Struct):
    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


@strawberry.type
class Task:
    id: strawberry.ID
    user_id: strawberry.ID
    title: str
    description: str | None
    completed: bool
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


@strawberry.type
class DeferredTask(Task):
    @strawberry.field
    async def shout(self, times: int = 1) -> str:
        return self.title.upper() * times


@strawberry.type
class Edge:
    cursor: str
    node: Task


@strawberry.type
class DeferredEdge:
    cursor: str
    node: DeferredTask


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Connection:
    edges: list[Edge]
    page_info: PageInfo

    @strawberry.field
    async def total_count(self) -> int:
        return 1000


@strawberry.type
class DeferredConnection:
    edges: list[DeferredEdge]


class EdgeRow(msgspec.Struct):
    cursor: str
    node: Row


class PageRow(msgspec.Struct):
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


class ConnectionRow(msgspec.Struct):
    edges: list[EdgeRow]
    page_info: PageRow


NOW = dt.datetime(2026, 1, 1, 12, tzinfo=UTC)
ROWS = [
    Row(
        n,
        "0123456789abcdef0123456789abcdef",
        f"Task number {n}",
        None if n % 5 == 0 else f"A longer description of task {n}, with “quotes”",
        n % 4 == 0,
        n % 9 + 1,
        NOW + dt.timedelta(microseconds=n * 7919 + 1),
        NOW + dt.timedelta(seconds=n, microseconds=n * 104729 + 1),
    )
    for n in range(1000)
]
PAGES = {
    n: ConnectionRow([EdgeRow(f"c{r.id}", r) for r in ROWS[:n]], PageRow(True, False, "c0", "c9"))
    for n in (1, 100, 1000)
}


@strawberry.input
class Filter:
    completed: bool | None = None


@strawberry.input
class NewTask:
    title: str
    description: str | None = None
    completed: bool = False


@strawberry.type
class Query:
    @strawberry.field
    async def tasks(self, info: strawberry.Info, first: int = 50) -> Connection:
        return PAGES[first]  # type: ignore[return-value]

    @strawberry.field
    async def filtered(self, first: int = 50, filter: Filter | None = None) -> Connection:
        return PAGES[first]  # type: ignore[return-value]

    @strawberry.field
    async def deferred(self, first: int = 50) -> DeferredConnection:
        return PAGES[first]  # type: ignore[return-value]

    @strawberry.field
    async def task(self, id: strawberry.ID) -> Task | None:
        return ROWS[int(id)]  # type: ignore[return-value]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def create_task(self, input: NewTask) -> Task | None:
        return ROWS[3]  # type: ignore[return-value]


SCALAR = strawberry.scalar(
    name="DateTime", serialize=rfc3339, parse_value=dt.datetime.fromisoformat
)
SCHEMA = strawberry.Schema(
    Query, Mutation, config=StrawberryConfig(scalar_map={dt.datetime: SCALAR})
)
LIST_SIZES = dict.fromkeys(list_fields(SCHEMA._schema), ConstantSize(1))
FIELDS = "id userId title description completed version createdAt updatedAt"
PAGE = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
EDGES = f"edges {{ cursor node {{ {FIELDS} }} }}"
LIST = f"query L($n: Int) {{ tasks(first: $n) {{ {EDGES} {PAGE} }} }}"
COUNT = LIST.replace(PAGE, PAGE + " totalCount")
FILTER = LIST.replace("$n: Int", "$n: Int, $f: Filter").replace(
    "tasks(first: $n", "filtered(first: $n, filter: $f"
)
DEFERRED = (
    f"query H($n: Int!) {{ deferred(first: $n) {{ edges {{ cursor node {{ {FIELDS} %s }} }} }} }}"
)
ONE = f"query T($id: ID!) {{ task(id: $id) {{ {FIELDS} }} }}"
TWO = f"query T($id: ID!) {{ task(id: $id) {{ {FIELDS} }} other: task(id: 4) {{ {FIELDS} }} }}"
NEW = f"mutation C($input: NewTask!) {{ createTask(input: $input) {{ {FIELDS} }} }}"
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *((f"list of {n}", LIST, {"n": n}) for n in (1, 100, 1000)),
    *((f"list of {n}, totalCount", COUNT, {"n": n}) for n in (1, 100)),
    ("list of 1, filter", FILTER, {"n": 1, "f": {"completed": True}}),
    ("one task", ONE, {"id": "3"}),
    ("two tasks", TWO, {"id": "3"}),
    ("create", NEW, {"input": {"title": "x", "description": "y"}}),
    *(
        (f"list of {n}, a resolver each", DEFERRED % "shout(times: 2)", {"n": n})
        for n in (100, 1000)
    ),
]


async def cpu(run: Callable[[], Awaitable[Any]], seconds: float = 0.4, rounds: int = 5) -> float:
    """The CPU microseconds of a call, in the best of so many rounds of ``seconds`` together."""
    await run()
    start = time.process_time()
    await run()
    each = max(time.process_time() - start, 1e-6)
    count = max(2, int(seconds / rounds / each))
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        for _ in range(count):
            await run()
        best = min(best, (time.process_time() - start) / count)
    return best * 1e6


async def main() -> None:
    """Print microseconds of CPU for each operation in both, and their ratio."""
    engine = CompiledSchema(SCHEMA, leaves={"DateTime": DATE_TIME}, list_sizes=LIST_SIZES)
    encode = msgspec.json.Encoder().encode
    print(f"{'':32}{'compiled':>10}{'stock':>12}{'ratio':>8}")
    for name, text, variables in CASES:

        async def compiled(text: str = text, variables: dict[str, Any] = variables) -> bytes:
            return (await engine.prepare(text).operation().bind(variables).execute()).data

        async def stock(text: str = text, variables: dict[str, Any] = variables) -> bytes:
            result = await SCHEMA.execute(text, variable_values=variables)
            return encode(result.data)

        assert msgspec.json.decode(await compiled()) == msgspec.json.decode(await stock())
        ours, theirs = await cpu(compiled), await cpu(stock)
        print(f"{name:32}{ours:>10.1f}{theirs:>12.1f}{theirs / ours:>8.0f}")


if __name__ == "__main__":
    asyncio.run(main())
