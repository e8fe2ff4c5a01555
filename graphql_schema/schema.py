"""The schema, and the engine that runs documents on it. ``python -m graphql_schema.schema`` writes
the committed SDL."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

import strawberry
from graphql import NoSchemaIntrospectionCustomRule
from strawberry.schema.config import StrawberryConfig

from api.http.json import instant, rfc3339
from api.settings import Settings
from graphql_schema.compiled import CompiledSchema, Leaf, Limits, Paging
from graphql_schema.mutations import Mutation
from graphql_schema.queries import Query
from graphql_schema.rules import NestedAliases

COMMITTED: Final = Path(__file__).parent / "schema.graphql"

_DATE_TIME: Final = strawberry.scalar(
    name="DateTime",
    description="An instant: RFC 3339 in UTC, with six fractional digits and `Z`.",
    serialize=rfc3339,
)

# What the encoder writes right by itself, and what else to do; see ``api.http.json.instant``.
_INSTANT: Final = Leaf(datetime, instant, as_is="{0}.microsecond")


@cache
def schema() -> strawberry.Schema:
    """The schema as Strawberry has it."""
    config = StrawberryConfig(scalar_map={datetime: _DATE_TIME})
    return strawberry.Schema(Query, Mutation, config=config)


def engine(settings: Settings) -> CompiledSchema:
    """The schema, ready to run documents within the limits of the settings."""
    shown = settings.is_introspectable
    return CompiledSchema(
        schema(),
        limits=Limits(
            depth=settings.graphql_max_depth,
            aliases=settings.graphql_max_aliases,
            tokens=settings.graphql_max_tokens,
            definitions=settings.graphql_max_definitions,
        ),
        rules=[NestedAliases, *([] if shown else [NoSchemaIntrospectionCustomRule])],
        leaves={"DateTime": _INSTANT},
        paging={"Query.tasks": Paging("first", most=settings.graphql_max_page_size)},
        hide_suggestions=not shown,
        refuse_nulls=True,
    )


def main() -> None:
    """Write the committed SDL anew, or with ``--check`` only say whether it is right."""
    written = schema().as_str() + "\n"
    if "--check" not in sys.argv[1:]:
        COMMITTED.write_text(written, encoding="utf-8")
    elif COMMITTED.read_text(encoding="utf-8") != written:
        sys.exit(f"{COMMITTED.name} does not say what the code does: make schema")


if __name__ == "__main__":
    main()
