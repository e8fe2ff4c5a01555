"""One document through the stock executor and the compiled one, and whether they agree."""

import asyncio
import dataclasses
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from graphql import (
    GraphQLError,
)

from graphql_schema.compiled import (
    CompiledSchema,
    RequestRejected,
)
from tests.compiled.random_documents import (
    Writer,
    variables,
)
from tests.compiled.random_schema import (
    LEAVES,
    LIST_SIZES,
    SCHEMA,
    WIDE,
    Dirt,
    Made,
    World,
    ran,
)

RUNS = 4


@dataclasses.dataclass
class Outcome:
    """What a client sees, and how often each resolver ran."""

    data: Any
    errors: list[str]
    ran: dict[str, int]


async def settle(before: set[asyncio.Task[Any]]) -> None:
    """Let what was abandoned in the background finish: its resolvers count too.

    Args:
        before: the tasks there were already; an app that other tests started has some that stay.
    """
    while asyncio.all_tasks() - before:  # noqa: ASYNC110
        await asyncio.sleep(0)


def outcome(data: Any, errors: Sequence[GraphQLError] | None) -> Outcome:
    texts = [json.dumps(error.formatted, sort_keys=True, default=repr) for error in errors or ()]
    return Outcome(data, sorted(texts), dict(ran))


async def through_stock(text: str, values: dict[str, Any], name: str | None = None) -> Outcome:
    ran.clear()
    before = asyncio.all_tasks()
    result = await SCHEMA.execute(
        text, variable_values=values, context_value="context", operation_name=name
    )
    await settle(before)
    return outcome(json.loads(json.dumps(result.data)), result.errors)


async def through_compiled(
    engine: CompiledSchema, text: str, values: dict[str, Any], name: str | None = None
) -> Outcome:
    ran.clear()
    try:
        call = engine.prepare(text).operation(name).bind(values)
    except RequestRejected as refused:
        return outcome(None, refused.errors)
    before = asyncio.all_tasks()
    response = await call.execute("context")
    await settle(before)
    return outcome(json.loads(response.data), response.errors)


def agree(stock: Outcome, compiled: Outcome) -> bool:
    """Whether the two are equal, up to what a race between failures may decide.

    When two fields that may not be null fail at once, one of them wins, and while the null
    is on its way up, resolvers beneath it are cancelled or not. Stock's null takes more
    turns of the loop than ours, having more gathers to climb. `data` is the same, and so
    are all errors that are not beneath such a null.
    """
    if stock == compiled or stock.data != compiled.data:
        return stock == compiled
    beneath = [
        {error for error in each.errors if is_beneath_null(error, stock.data)}
        for each in (stock, compiled)
    ]
    differing = set(stock.errors) ^ set(compiled.errors)
    is_race = bool(ASYNCHRONOUS & (stock.ran.keys() | compiled.ran.keys()))
    return is_race and all(beneath) and differing <= beneath[0] | beneath[1]


ASYNCHRONOUS = {"User.rank", "Item.later", "Item.surely", "Item.others", "items", "page"}


def is_beneath_null(error: str, data: Any) -> bool:
    *above, _ = json.loads(error).get("path", [None])
    for key in above:
        if data is None:
            return True
        data = data[key]
    return data is None


def describe(
    seed: int, text: str, values: dict[str, Any], stock: Outcome, compiled: Outcome
) -> str:
    lines = [f"seed {seed}: {text} with {values}"]
    for field in dataclasses.fields(Outcome):
        ours, theirs = getattr(compiled, field.name), getattr(stock, field.name)
        if ours != theirs:
            lines.append(f"{field.name}:\n  stock    {theirs}\n  compiled {ours}")
    return "\n".join(lines)


async def differences(seeds: Iterable[int]) -> AsyncIterator[str]:
    """What the two disagree on; each seed is a document run `RUNS` times."""
    engine = CompiledSchema(SCHEMA, leaves=LEAVES, limits=WIDE, list_sizes=LIST_SIZES)
    for seed in seeds:
        rng = random.Random(seed)
        text = Writer(rng).document()
        for _ in range(RUNS):
            World.suspends = seed % 3 == 0
            made = Made(rng, Dirt(rng, rng.choice([0, 0.002, 0.01, 0.03])))
            World.items = [made.item() for _ in range(3)]
            World.error = ValueError("the database is down") if rng.random() < 0.03 else None
            values = variables(rng)
            stock = await through_stock(text, values)
            compiled = await through_compiled(engine, text, values)
            seen.update(kinds(compiled))
            if not agree(stock, compiled):
                yield describe(seed, text, values, stock, compiled)


def kinds(outcome: Outcome) -> Iterator[str]:
    """What sort of a run it was, to know that the fuzzer reaches everything."""
    yield "refused" if outcome.errors and not outcome.ran else "ran"
    yield "with errors" if outcome.errors else "without errors"
    yield "deferred" if any("." in name for name in outcome.ran) else "plain"


seen: Counter[str] = Counter()
