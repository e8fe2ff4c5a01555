"""A schema with every kind of field, and random data for it: right, wrong and hostile."""

import asyncio
import datetime as dt
import decimal
import enum
import random
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import strawberry
from graphql import (
    GraphQLError,
)
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from graphql_schema.compiled import (
    ConstantSize,
    Leaf,
    Limits,
    list_fields,
)

UTC = dt.UTC

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
        response: int = await resolved("User.rank", self)
        return response


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
        response: int = resolved_now("Item.computed", self)
        return response

    @strawberry.field
    def perhaps(self, info: strawberry.Info, window: Window | None = None) -> str | None:
        assert info.context == "context"
        response: str | None = resolved_now("Item.perhaps", self)
        return response and f"{window} {info.field_name} {info.path.key}"

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
        response: int = await resolved("User.rank", self)
        return response


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
