"""Random documents and dirty data through the stock executor and the compiled one.

Whatever is asked and whatever resolvers return, the two must agree on data, errors and how
often each resolver ran. `make test-slow` does this with more documents (COMPILED_FUZZ_DOCUMENTS).
"""

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import gc
import json
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
import strawberry
from graphql import (
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLString,
    GraphQLUnionType,
    NameNode,
    OperationDefinitionNode,
    Visitor,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    parse,
    print_ast,
    visit,
)
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import Path
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from graphql_schema.compiled import (
    CompiledSchema,
    ConstantSize,
    Leaf,
    Limits,
    RequestRejected,
    list_fields,
)
from graphql_schema.compiled import document as document_module
from graphql_schema.compiled import executor as executor_module
from graphql_schema.compiled import leaves as leaves_module
from graphql_schema.compiled import resolvers as resolvers_module
from graphql_schema.compiled.executor import CompiledExecutor, DeferredFields
from graphql_schema.compiled.selections import DeferredField
from graphql_schema.compiled.usages import Usages

MANY = int(os.environ.get("COMPILED_FUZZ_DOCUMENTS", "300"))
RUNS = 4
GROUPS = 15
UTC = dt.UTC

# Coroutines whose parents were cancelled before they began: stock leaves them behind too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ran: Counter[str] = Counter()


@strawberry.enum
class Colour(enum.Enum):
    RED = strawberry.enum_value("r", name="ROUGE")
    GREEN = "g"
    BLUE = "b"


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Tag(Named):
    name: str
    colour: Colour | None


@strawberry.type
class User(Named):
    name: str
    email: str | None
    uid: uuid.UUID
    boss: "User | None"

    @strawberry.field
    async def rank(self) -> int:
        answer: int = await resolved("User.rank", self)
        return answer


@strawberry.input
class Pair:
    left: int
    right: float | None
    when: dt.datetime | None = None


@strawberry.input
class Window:
    start: int = 0
    size: int | None = None
    colours: list[Colour] | None = None
    pairs: list[Pair | None] | None = strawberry.UNSET
    pair: Pair | None = None
    numbers: list[list[int]] = strawberry.field(default_factory=lambda: [[1]])
    wider: "Window | None" = None


@strawberry.input
class Change:
    title: strawberry.Maybe[str]
    note: strawberry.Maybe[str | None]


@strawberry.type
class Item:
    id: strawberry.ID
    title: str
    note: str | None
    done: bool
    due: dt.datetime | None
    made: dt.datetime
    day: dt.date
    number: int
    ratio: float | None
    price: decimal.Decimal | None
    extra: JSON | None
    words: list[str]
    maybe_words: list[str | None] | None
    grid: list[list[int]]
    owner: User | None
    must: User
    labels: list[Tag]
    maybe_labels: list[Tag | None] | None
    sub: list["Item"]
    maybe_sub: list["Item | None"] | None
    who: Named | None
    either: Annotated[User | Tag, strawberry.union("Either")] | None

    @strawberry.field
    def computed(self, by: int = 2) -> int:
        answer: int = resolved_now("Item.computed", self)
        return answer

    @strawberry.field
    def perhaps(self, info: strawberry.Info, window: Window | None = None) -> str | None:
        assert info.context == "context"
        answer: str | None = resolved_now("Item.perhaps", self)
        return answer and f"{window} {info.field_name} {info.path.key}"

    @strawberry.field
    async def later(self) -> User | None:
        await resolved("Item.later", self)
        return self.owner

    @strawberry.field
    async def surely(self, times: int) -> User:
        await resolved("Item.surely", self)
        return self.must

    @strawberry.field
    async def others(self) -> list["Item | None"]:
        await resolved("Item.others", self)
        return list(self.sub)


def resolved_now(name: str, source: Any) -> Any:
    """What a resolver of an item or user does: count, then go by the source's mood."""
    ran[name] += 1
    mood = getattr(source, "mood", None)
    if mood == name:
        raise ValueError(f"{name} is in a bad mood")
    return None if mood == "null" else 7 if name in ("Item.computed", "User.rank") else "fine"


async def resolved(name: str, source: Any) -> Any:
    # As long for both executors, but not for all resolvers.
    for _ in range(len(str(getattr(source, "title", name))) % 3 if World.suspends else 0):
        await asyncio.sleep(0)
    return resolved_now(name, source)


@strawberry.type
class Edge:
    cursor: str
    node: Item | None


@strawberry.type
class Connection:
    edges: list[Edge]
    nodes: list[Item]

    @strawberry.field
    async def total_count(self) -> int:
        answer: int = await resolved("User.rank", self)
        return answer


class World:
    """What the root resolvers return in this run."""

    items: Any = ()
    error: Exception | None = None
    suspends = False


def root(name: str) -> Any:
    ran[name] += 1
    if World.error:
        raise World.error
    return World.items


@strawberry.type
class Query:
    @strawberry.field
    async def items(self, first: int = 3, window: Window | None = None) -> list[Item]:
        return root("items")[:first]  # type: ignore[no-any-return]

    @strawberry.field
    def maybe(self, colour: Colour = Colour.RED) -> Item | None:
        return root("maybe")[0]  # type: ignore[no-any-return]

    @strawberry.field
    def maybe_items(self) -> list[Item | None] | None:
        return tuple(root("maybe_items"))  # type: ignore[return-value]

    @strawberry.field
    async def page(self, ids: list[strawberry.ID] | None = None) -> Connection:
        items = root("page")
        edges = [SimpleNamespace(cursor=str(n), node=item) for n, item in enumerate(items)]
        return SimpleNamespace(edges=edges, nodes=items, mood=None)  # type: ignore[return-value]

    @strawberry.field
    async def hello(self, name: str | None = None) -> str:
        ran["hello"] += 1
        return f"hello {name}"

    @strawberry.field
    async def echo(
        self,
        root: Any,
        info: strawberry.Info,
        window: Window | None = None,
        pair: Pair | None = None,
        pairs: list[Pair] | None = strawberry.UNSET,
        change: Change | None = None,
        ids: list[strawberry.ID | None] | None = None,
        number_of: Annotated[int, strawberry.argument(name="howMany")] = 3,
    ) -> str:
        ran["echo"] += 1
        return f"{root} {info.variable_values} {window} {pair} {pairs} {change} {ids} {number_of}"

    @strawberry.field
    @staticmethod
    def parented(parent: strawberry.Parent[Any], pair: Pair | None = None) -> str:
        ran["parented"] += 1
        return f"{parent} {pair}"


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def touch(self, window: Window | None = None) -> Item | None:
        return root("touch")[-1]  # type: ignore[no-any-return]

    @strawberry.mutation
    def must_touch(self, number: int = 1) -> Item:
        return root("must_touch")[-1]  # type: ignore[no-any-return]


def rfc3339(value: dt.datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


SCALAR = strawberry.scalar(
    name="DateTime", serialize=rfc3339, parse_value=dt.datetime.fromisoformat
)
SCHEMA = strawberry.Schema(
    Query, Mutation, types=[User, Tag], config=StrawberryConfig(scalar_map={dt.datetime: SCALAR})
)
LEAVES = {
    "DateTime": Leaf(
        dt.datetime, rfc3339, as_is="{0}.microsecond and {0}.tzinfo is UTC", names={"UTC": UTC}
    )
}
LIST_SIZES = dict.fromkeys(list_fields(SCHEMA._schema), ConstantSize(1))
WIDE = Limits(50_000, 20_000, 500, 100, 100, 10_000, 10_000, 100_000, 1_000_000, 10**9)


class Text(str):
    pass


class Whole(int):
    pass


class Awaitable:
    """Awaitable as often as you like, unlike a coroutine: both executors get the same one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Touchy:
    """Raises whatever is read."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        raise LookupError(name)


class Dirt:
    """Spoils values now and then."""

    def __init__(self, rng: random.Random, rate: float) -> None:
        self.rng = rng
        self.rate = rate

    def __call__(self, value: Any) -> Any:
        if self.rng.random() >= self.rate:
            return value
        if self.rng.random() < 0.1:
            return Awaitable(value)
        return self.rng.choice(BAD)


BAD: Sequence[Any] = (
    *(None, 5, 2**31, -(2**31) - 1, 2**70, Whole(3), "zzz", Text("sub"), True, 1.5),
    *(float("nan"), float("inf"), ValueError("boom"), [], {}, object(), (1, 2), {1}, b"x"),
    *(dt.datetime(2026, 1, 1), Colour.RED, "r", "g", uuid.UUID(int=5), decimal.Decimal(2)),
    *(Awaitable(3), Awaitable(ValueError("late")), Touchy(), GraphQLError("own"), iter(())),
)


class Made:
    """Makes the data of one run: strawberry instances, structs and any other objects."""

    def __init__(self, rng: random.Random, dirt: Dirt) -> None:
        self.rng = rng
        self.dirt = dirt
        self.moodiness = rng.choice([0, 0.03, 0.2])

    def pick(self, *values: Any) -> Any:
        return self.dirt(self.rng.choice(values))

    def instance(self, type_: type, fields: dict[str, Any]) -> Any:
        mood = self.rng.choice(MOODS) if self.rng.random() < self.moodiness else None
        if issubclass(type_, Named) or self.rng.random() < 0.5:
            instance = type_(**fields)
            instance.mood = mood
            return self.dirt(instance)
        if self.rng.random() < 0.5:
            return self.dirt(SimpleNamespace(mood=mood, **fields))
        return self.dirt(msgspec.defstruct("Row", [*fields, "mood"])(*fields.values(), mood))

    def user(self, depth: int = 2) -> Any:
        boss = self.user(depth - 1) if depth and self.rng.random() < 0.5 else None
        uid = uuid.UUID(int=self.rng.getrandbits(128))
        email = self.pick(None, "e@example.org")
        return self.instance(
            User, {"name": self.pick("ada", "bob"), "email": email, "uid": uid, "boss": boss}
        )

    def tag(self) -> Any:
        return self.instance(Tag, {"name": self.pick("t"), "colour": self.pick(None, *Colour)})

    def moment(self) -> dt.datetime:
        zone = self.rng.choice([UTC, UTC, dt.timezone(dt.timedelta(hours=2))])
        return dt.datetime(2026, 1, 2, 3, 4, 5, self.rng.choice([0, 7]), tzinfo=zone)

    def some(self, make: Callable[[], object], most: int = 3) -> Any:
        return self.dirt([make() for _ in range(self.rng.randrange(most))])

    def item(self, depth: int = 2) -> Any:
        pick, dirt = self.pick, self.dirt
        return self.instance(
            Item,
            {
                "id": pick("1", 42),
                "title": pick('say "hé"', ""),
                "note": pick(None, "note"),
                "done": pick(True, False),
                "due": pick(None, self.moment()),
                "made": dirt(self.moment()),
                "day": pick(dt.date(2026, 2, 3)),
                "number": pick(0, -9, 2**31 - 1),
                "ratio": pick(None, 1.25, 3),
                "price": pick(None, decimal.Decimal("1.50")),
                "extra": self.rng.choice([None, {"a": [1, None]}, 3, Text("x"), ValueError("no")]),
                "words": self.some(lambda: pick("a", "b")),
                "maybe_words": pick(None, ["a", None]),
                "grid": dirt([dirt([pick(1), 2]), (3,)]),
                "owner": pick(None, self.user()),
                "must": self.user(),
                "labels": self.some(self.tag),
                "maybe_labels": pick(None, [self.tag(), None]),
                "sub": self.some(lambda: self.item(depth - 1)) if depth else (),
                "maybe_sub": pick(None, [None, self.item(depth - 1)]) if depth else None,
                "who": pick(None, self.user(), self.tag()),
                "either": pick(None, self.user(), self.tag()),
            },
        )


MOODS = [
    *("null", "User.rank", "Item.computed", "Item.perhaps", "Item.later", "Item.surely"),
    "Item.others",
]


class Writer:
    """Writes random documents for the schema, nearly all of them valid."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.aliases = 0
        self.fragments: list[str] = []
        self.defers = rng.random() < 0.75

    def document(self) -> str:
        graphql = SCHEMA._schema
        is_mutation = self.rng.random() < 0.15
        root = graphql.mutation_type if is_mutation else graphql.query_type
        assert root is not None
        weights = [1 if is_leaf_type(get_named_type(f.type)) else 5 for f in root.fields.values()]
        count = self.rng.choice([1, 1, 1, 2, 3])
        names = self.rng.choices(list(root.fields), weights, k=count)
        depth = self.rng.choice([1, 2, 2, 3])
        fields = [self.field(name, root.fields[name], depth, alias=True) for name in names]
        fields.append(f"kind: __typename{self.condition()}")
        selections = " ".join(fields)
        if self.rng.random() < 0.1:
            selections = f"...Root }} fragment Root on {root.name} {{ {selections}"
        kind = "mutation" if is_mutation else "query"
        body = f"{{ {selections} }} {' '.join(self.fragments)}"
        used = [text for name, text in VARIABLES.items() if name in body]
        return f"{kind} Op{'(' if used else ''}{', '.join(used)}{')' if used else ''} {body}"

    def selection(self, type_: object, depth: int) -> str:
        if isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
            return self.abstract(type_, depth)
        assert isinstance(type_, GraphQLObjectType)
        fields = list(type_.fields.items())
        self.rng.shuffle(fields)
        written = [
            self.field(name, field, depth)
            for name, field in fields[: self.rng.choice([1, 2, 3, 4, 5, len(fields)])]
            if self.defers or not (field.args or name in RESOLVED)
        ]
        if self.rng.random() < 0.2:
            written.append("__typename")
        if self.rng.random() < 0.2:
            written.append(f"...{self.condition()} {self.selection(type_, depth - 1)}")
        if self.rng.random() < 0.2:
            written.append(self.spread(type_, depth - 1))
        self.rng.shuffle(written)
        return "{ " + " ".join(filter(None, written) or ["__typename"]) + " }"

    def abstract(self, type_: GraphQLInterfaceType | GraphQLUnionType, depth: int) -> str:
        written = ["__typename"]
        for possible in SCHEMA._schema.get_possible_types(type_):
            if self.rng.random() < 0.8:
                inner = self.selection(possible, depth - 1)
                written.append(f"... on {possible.name}{self.condition()} {inner}")
        return "{ " + " ".join(written) + " }"

    def spread(self, type_: GraphQLObjectType, depth: int) -> str:
        name = f"F{len(self.fragments)}"
        self.fragments.append("")
        place = len(self.fragments) - 1
        inner = self.selection(type_, depth)
        self.fragments[place] = f"fragment {name} on {type_.name} {inner}"
        return f"...{name}{self.condition()}" + (f" ...{name}" if self.rng.random() < 0.1 else "")

    def field(self, name: str, field: GraphQLField, depth: int, alias: bool = False) -> str:
        named = get_named_type(field.type)
        if not is_leaf_type(named) and depth <= 0:
            return ""
        arguments = self.arguments(field)
        label = name
        if alias or arguments or self.rng.random() < 0.2:
            self.aliases += 1
            label = f"a{self.aliases}: {name}"
        inner = "" if is_leaf_type(named) else self.selection(named, depth - 1)
        return f"{label}{arguments}{self.condition()} {inner}"

    def arguments(self, field: GraphQLField) -> str:
        values = [
            f"{name}: {self.value(argument.type)}"
            for name, argument in field.args.items()
            if is_non_null_type(argument.type) or self.rng.random() < 0.6
        ]
        return f"({', '.join(values)})" if values else ""

    def value(self, type_: Any) -> str:
        rng = self.rng
        if is_list_type(get_nullable_type(type_)):
            return rng.choice(LISTS.get(get_named_type(type_).name, ["null"]))
        named = get_named_type(type_)
        if named is GraphQLInt:
            return rng.choice(["1", "2", "$n"])
        if named is GraphQLString:
            return rng.choice(['"x"', "null"])
        if isinstance(named, GraphQLInputObjectType):
            return rng.choice(INPUTS[named.name])
        return rng.choice(["ROUGE", "GREEN"])

    def condition(self) -> str:
        return self.rng.choice(["", "", "", "", "", "", *CONDITIONS])


VARIABLES = {
    "$a": "$a: Boolean!",
    "$b": "$b: Boolean = false",
    "$n": "$n: Int! = 2",
    "$w": "$w: Window",
}
CONDITIONS = (
    *(" @include(if: $a)", " @skip(if: $b)", " @include(if: true)", " @skip(if: $a)"),
    " @skip(if: false) @include(if: $a)",
)
RESOLVED = {"later", "others", "totalCount", "rank", "who", "either", "computed", "perhaps"}


LISTS = {
    "ID": ["[]", '["1", 2]', '"3"', "null"],
    "Colour": ["[GREEN]", "RED"],
    "Pair": ["[]", "[{left: 1}]", "{left: $n, right: 2}"],
}
INPUTS = {
    "Window": [
        *("{}", "{start: 1}", "{start: $n, size: null}", "{colours: [ROUGE, BLUE]}", "$w", "$w"),
        '{pairs: [{left: 1, when: "2026-01-01T00:00:00+00:00"}, null], numbers: [[$n], 2]}',
        "{wider: {wider: {pair: {left: $n}}}}",
    ],
    "Pair": ["{left: 2}", "{left: $n, right: null}", "null"],
    "Change": ['{title: "x"}', "{note: null}", "{}", "{title: null}"],
}


def variables(rng: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = {"a": rng.random() < 0.5}
    if rng.random() < 0.7:
        values["b"] = rng.choice([True, False, True, False, None])
    if rng.random() < 0.7:
        values["n"] = rng.choice([1, 2, 3, 2.0])
    if rng.random() < 0.7:
        values["w"] = rng.choice(WINDOWS)
    if rng.random() < 0.05:
        values[rng.choice("abnw")] = rng.choice(["x", 2**40, {"no": 1}, [], {"start": "x"}])
    return values


WINDOWS: Sequence[Any] = (
    *(None, {}, {"start": 2}, {"colours": ["ROUGE"], "size": 1}, {"wider": {"wider": {}}}),
    *({"pairs": [{"left": 1, "right": 2}]}, {"pairs": {"left": 1}}, {"numbers": 3}),
    *({"pair": {"left": "1"}}, {"pair": None, "numbers": []}, {"colours": ["PINK"]}),
)


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
    answer = await call.execute("context")
    await settle(before)
    return outcome(json.loads(answer.data), answer.errors)


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


@pytest.fixture(autouse=True)
def _collect_garbage() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize("documents", [60, pytest.param(MANY, marks=pytest.mark.slow)])
async def test_both_executors_agree_on_everything(documents: int) -> None:
    seen.clear()

    found = [difference async for difference in differences(range(documents))]

    assert not found, f"{len(found)} differences, the first:\n{found[0]}"
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
