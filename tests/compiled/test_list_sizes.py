"""Every list field has a declared size, and the items of a response are limited by it."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry

from graphql_schema import task_changes, task_types
from graphql_schema.compiled import (
    CompiledSchema,
    ConstantSize,
    DeclaredSize,
    InputList,
    LeafList,
    Limits,
    RequestRejected,
    SlicingArgument,
    Stage,
)
from graphql_schema.schema import schema


@strawberry.type
class Book:
    title: str
    authors: list[str]


@strawberry.type
class Cup:
    name: str


@strawberry.type
class Cupboard:
    things: list[Cup | Book]


@strawberry.type
class Kitchen:
    @strawberry.field
    async def cupboard(self, first: int, last: int = 3) -> Cupboard:
        return Cupboard(things=[])


@pytest.mark.parametrize(
    ("selected", "variables", "requested"),
    [
        ("cupboard(first: 3) { things { ... on Cup { name } ... on Book { title } } }", {}, 0),
        ("cupboard(first: 4) { things { __typename } }", {}, 4),
        ("cupboard(first: 5) { things { __typename } }", {}, 0),
        ("cupboard(first: $n) { things { __typename } }", {"n": 4}, 4),
        ("cupboard(first: $n) { things { __typename } }", {"n": 3}, 0),
        ("cupboard(first: 2) { things { ... on Cup { name } ... on Book { title t: title } } }",
         {}, 4),
        ("cupboard(first: 2, last: 4) { things { __typename a: __typename } }", {}, 4),
        ("cupboard(first: 2) { things { __typename } } c: cupboard(first: 2) { __typename }",
         {}, 4),
    ],
)  # fmt: skip
def test_the_items_of_all_pages_are_limited(
    selected: str, variables: dict[str, Any], requested: int
) -> None:
    sizes: dict[str, DeclaredSize] = {"Cupboard.things": SLICED, "Book.authors": ConstantSize(1)}
    engine = CompiledSchema(strawberry.Schema(Kitchen), limits=Limits(items=3), list_sizes=sizes)
    heading = "query ($n: Int!)" if variables else ""
    operation = engine.prepare(f"{heading} {{ {selected} }}").operation()

    if not requested:
        operation.bind(variables)
        return
    with pytest.raises(
        RequestRejected, match=rf"list items \(3\): it asks for {requested}, "
    ) as refused:
        operation.bind(variables)
    assert refused.value.stage is Stage.LIMITS


@pytest.mark.parametrize(("default", "requested"), [(strawberry.UNSET, 4), (None, 4), (2, 2)])
def test_a_page_without_a_length_has_the_default_one_or_the_most(
    default: Any, requested: int
) -> None:
    @strawberry.type
    class Hall:
        @strawberry.field
        async def cupboard(self, first: int | None = default) -> Cupboard:
            return Cupboard(things=[])

    sizes: dict[str, DeclaredSize] = {
        "Cupboard.things": SlicingArgument("Hall.cupboard", "first", most=4),
        "Book.authors": ConstantSize(1),
    }
    engine = CompiledSchema(strawberry.Schema(Hall), limits=Limits(items=1), list_sizes=sizes)

    for arguments in ("", "(first: null)"):
        document = engine.prepare(f"{{ cupboard{arguments} {{ __typename }} }}")
        with pytest.raises(RequestRejected, match=f"asks for {requested}, "):
            document.operation().bind()


SLICED = SlicingArgument("Kitchen.cupboard", "first", most=4)


@strawberry.type
class Room:
    @strawberry.field
    async def find(self, names: list[str], first: int) -> list[Book]:
        return []

    @strawberry.field
    async def maybe(self) -> list[list[int]] | None:
        return None


ROOM: dict[str, DeclaredSize] = {
    "Book.authors": ConstantSize(3),
    "Room.find": InputList("Room.find", "names"),
    "Room.maybe": ConstantSize(9),
}


def test_a_schema_with_a_size_for_each_list_field_is_accepted() -> None:
    CompiledSchema(strawberry.Schema(Room), list_sizes=ROOM)


@pytest.mark.parametrize("name", ROOM)
def test_a_list_field_without_a_declared_size_is_named(name: str) -> None:
    sizes = {each: size for each, size in ROOM.items() if each != name}

    with pytest.raises(ValueError, match=f"No list size is declared for {name}$"):
        CompiledSchema(strawberry.Schema(Room), list_sizes=sizes)


def list_sizes() -> dict[str, Any]:
    """Those of the service's schema."""
    return task_types.list_sizes(1000) | task_changes.list_sizes(1000)


@pytest.mark.parametrize("name", list_sizes())
def test_the_schema_of_tasks_has_a_declaration_for_each_list_field(name: str) -> None:
    sizes = list_sizes()
    del sizes[name]

    with pytest.raises(ValueError, match=f"No list size is declared for {name}$"):
        CompiledSchema(schema(), list_sizes=sizes)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("Book.title", ConstantSize(1), "Book.title, which is not a list field"),
        ("Book.pages", ConstantSize(1), "Book.pages, which is not a list field"),
        ("Book.authors", InputList("Room.find", "first"), "'first' of Room.find is no list"),
        ("Book.authors", InputList("Room.find", "frist"), "Room.find has no argument 'frist'"),
        ("Book.authors", InputList("Room.search", "names"), "Room.search has no argument 'names'"),
        ("Book.authors", InputList("Shed.find", "names"), "Shed.find has no argument 'names'"),
        ("Book.authors", SlicingArgument("Room.find", "last", 9), "Room.find has no argument"),
        ("Room.find", LeafList(3), "Room.find: its items are not leaves"),
    ],
)
def test_a_declaration_that_does_not_fit_the_schema_is_rejected(
    name: str, size: DeclaredSize, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CompiledSchema(strawberry.Schema(Room), list_sizes=ROOM | {name: size})


@strawberry.type
class Shelf:
    @strawberry.field
    async def books(self, first: int) -> list[Book]:
        return []


@strawberry.type
class Library:
    @strawberry.field
    async def shelf(self, first: int, last: int) -> Shelf:
        return Shelf()


@pytest.mark.parametrize(
    ("books", "authors", "message"),
    [
        (SlicingArgument("Shelf.books", "first", 9), ConstantSize(1), "not a root field"),
        (
            SlicingArgument("Library.shelf", "first", 9),
            SlicingArgument("Library.shelf", "last", 9),
            "Library.shelf has another slicing argument",
        ),
    ],
)
def test_only_one_argument_of_a_root_field_is_counted(
    books: DeclaredSize, authors: DeclaredSize, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CompiledSchema(
            strawberry.Schema(Library), list_sizes={"Shelf.books": books, "Book.authors": authors}
        )


@pytest.mark.parametrize(
    ("selected", "count"), [("title", 4), ("authors", 12), ("title authors a: authors", 24)]
)
def test_a_list_of_constant_size_multiplies_the_items_around_it(selected: str, count: int) -> None:
    sizes: dict[str, DeclaredSize] = {"Cupboard.things": SLICED, "Book.authors": ConstantSize(3)}
    engine = CompiledSchema(strawberry.Schema(Kitchen), limits=Limits(items=3), list_sizes=sizes)
    text = f"{{ cupboard(first: 4) {{ things {{ ... on Book {{ {selected} }} }} }} }}"

    with pytest.raises(RequestRejected, match=f"asks for {count}, "):
        engine.prepare(text).operation().bind()


@pytest.mark.parametrize(
    ("selected", "count"), [("title", 4), ("authors", 4), ("authors a: authors", 8)]
)
def test_a_list_of_leaves_counts_like_one_leaf(selected: str, count: int) -> None:
    sizes: dict[str, DeclaredSize] = {"Cupboard.things": SLICED, "Book.authors": LeafList(20)}
    engine = CompiledSchema(strawberry.Schema(Kitchen), limits=Limits(items=3), list_sizes=sizes)
    text = f"{{ cupboard(first: 4) {{ things {{ ... on Book {{ {selected} }} }} }} }}"

    with pytest.raises(RequestRejected, match=f"asks for {count}, "):
        engine.prepare(text).operation().bind()
