"""A small schema of books, its compiled form, and running a document on it."""

import datetime as dt
import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import (
    GraphQLError,
)
from strawberry.permission import BasePermission
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from graphql_schema.compiled import (
    CompiledSchema,
    ConstantSize,
    DeclaredSize,
    Leaf,
    RequestRejected,
    list_fields,
)

UTC = dt.UTC
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def rfc3339(value: dt.datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Never(BasePermission):
    message = "not you"

    def has_permission(self, source: Any, info: strawberry.Info, **kwargs: Any) -> bool:
        return False


@strawberry.type
class Book:
    id: strawberry.ID
    title: str
    pages: int | None
    printed: dt.datetime
    sequel: "Book | None"

    @strawberry.field
    async def loud(self, times: int = 1) -> str:
        return self.title.upper() * times

    @strawberry.field
    def broken(self) -> str:
        raise LookupError(f"no {self.title}")

    secret: str | None = strawberry.field(permission_classes=[Never])


@strawberry.type
class Shelf:
    books: list[Book]
    maybe_books: list[Book | None]

    @strawberry.field
    async def count(self) -> int:
        return len(self.books)


@strawberry.input
class NewBook:
    title: str
    pages: int | None = None


@strawberry.type
class Query:
    @strawberry.field
    async def shelf(self, info: strawberry.Info, first: int = 2) -> Shelf:
        books = info.context[:first]
        return SimpleNamespace(books=books, maybe_books=books)  # type: ignore[return-value]

    @strawberry.field
    async def book(self, info: strawberry.Info, id: strawberry.ID) -> Book | None:
        return next((book for book in info.context if str(book.id) == id), None)

    @strawberry.field
    async def fails(self) -> str | None:
        raise ValueError("on purpose")

    @strawberry.field
    async def any(self, info: strawberry.Info) -> JSON | None:
        return info.context  # type: ignore[no-any-return]

    @strawberry.field
    async def call(self, info: strawberry.Info, name: str) -> str:
        response: str = await info.context(name)
        return response


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add(self, new: NewBook) -> str | None:
        return f"{new.title}, {new.pages} pages"

    @strawberry.mutation
    async def call(self, info: strawberry.Info, name: str) -> str | None:
        response: str = await info.context(name)
        return response


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self) -> AsyncGenerator[int, None]:
        yield 1


SCALAR = strawberry.scalar(
    name="DateTime", serialize=rfc3339, parse_value=dt.datetime.fromisoformat
)
SCHEMA = strawberry.Schema(
    Query, Mutation, config=StrawberryConfig(scalar_map={dt.datetime: SCALAR})
)
DATE_TIME = Leaf(
    dt.datetime, rfc3339, as_is="{0}.microsecond and {0}.tzinfo is UTC", names={"UTC": UTC}
)


def declared(schema: strawberry.Schema) -> dict[str, DeclaredSize]:
    """A size for each list field of a schema."""
    return dict.fromkeys(list_fields(schema._schema), ConstantSize(1))


def compiled(schema: strawberry.Schema, **options: Any) -> CompiledSchema:
    return CompiledSchema(schema, list_sizes=declared(schema), **options)


ENGINE = compiled(SCHEMA, leaves={"DateTime": DATE_TIME})


def book(number: int, **changes: Any) -> Any:
    fields: dict[str, Any] = {"id": number, "title": f"Book {number}", "pages": 9, "secret": "x"}
    fields |= {"printed": MOMENT, "sequel": None}
    return SimpleNamespace(**(fields | changes))


async def run(
    text: str,
    context: Any = None,
    engine: CompiledSchema = ENGINE,
    **variables: Any,
) -> tuple[Any, list[GraphQLError]]:
    response = await engine.prepare(text).operation().bind(variables).execute(context)
    return json.loads(response.data), response.errors


def refusal(text: str, engine: CompiledSchema = ENGINE, **variables: Any) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        engine.prepare(text).operation().bind(variables)
    return caught.value
