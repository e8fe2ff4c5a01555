"""The schema, composed of each resource's fields, and the engine that runs documents on it."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Final

import strawberry
from graphql import GraphQLObjectType, NoSchemaIntrospectionCustomRule
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from api.http.json import instant
from api.settings import Settings
from graphql_schema import task_changes, task_types, tasks
from graphql_schema.compiled import CompiledSchema, Leaf, Limits
from graphql_schema.rules import NestedAliases
from graphql_schema.viewer import ViewerQueries

# msgspec writes an instant as RFC 3339 itself, with six digits unless they are zeros;
# ``api.http.json.instant`` converts those.
_INSTANT: Final = Leaf(datetime, instant, as_is="{0}.microsecond")
_TEXT: Final = Leaf(str, str, as_is="True")


@strawberry.type(description="What can be read. Each field costs one read.")
class Query(tasks.TaskQueries, task_changes.TaskChangesQueries, ViewerQueries):
    """The query fields of every noun."""


@strawberry.type(description="What can be written. Each field costs one write.")
class Mutation(tasks.TaskMutations):
    """The mutation fields of every resource."""


@strawberry.type(description="What can be followed. Opening one costs one read.")
class Subscription(task_changes.TaskChangesSubscriptions):
    """The subscription fields of every noun."""


@cache
def schema() -> strawberry.Schema:
    """Strawberry's schema."""
    scalars: dict[object, ScalarDefinition] = {
        datetime: task_types.DATE_TIME,
        task_types.Moment: task_types.DATE_TIME,
        task_types.Due: task_types.DUE,
    }
    config = StrawberryConfig(scalar_map=scalars)
    made = strawberry.Schema(Query, Mutation, Subscription, config=config)
    for type_ in made._schema.type_map.values():
        if isinstance(type_, GraphQLObjectType):
            # Types with interfaces would require instances of Strawberry's classes. Ours are
            # resolved from rows, and an interface says itself which type a value has.
            type_.is_type_of = None
    return made


def engine(settings: Settings) -> CompiledSchema:
    """The engine that runs documents within the limits of the settings."""
    is_introspectable = settings.is_introspectable
    max_page = settings.graphql_max_page_size
    return CompiledSchema(
        schema(),
        limits=Limits(
            depth=settings.graphql_max_depth,
            aliases=settings.graphql_max_aliases,
            tokens=settings.graphql_max_tokens,
            definitions=settings.graphql_max_definitions,
        ),
        rules=[NestedAliases, *([] if is_introspectable else [NoSchemaIntrospectionCustomRule])],
        leaves={"DateTime": _INSTANT, "Due": _TEXT},
        list_sizes=task_types.list_sizes(max_page) | task_changes.list_sizes(max_page),
        hide_suggestions=not is_introspectable,
        reject_nulls=True,
    )
