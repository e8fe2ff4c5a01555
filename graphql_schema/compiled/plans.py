"""What of a selection is plain data, and what the stock executor has to resolve.

Plain data needs nothing but attributes: objects, lists of them, and leaves. A field that needs
more (a resolver, an interface, a union) is deferred.
"""

import keyword
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from graphql import (
    GraphQLField,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

Collect: TypeAlias = Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet]
"""The fields selected on an object type, by response key."""

MAX_LISTS: Final = 12
"""Nested lists in one function: CPython nests at most 20 loops."""
MAX_OBJECTS: Final = 24
"""Nested objects in one function: CPython indents at most 100 levels."""


@dataclass(slots=True)
class LeafPlan:
    type: GraphQLLeafType
    nullable: bool = True
    has_deferred: bool = False


@dataclass(slots=True)
class ListPlan:
    item: "Plan"
    has_deferred: bool
    nullable: bool = True


@dataclass(slots=True)
class ObjectPlan:
    type: GraphQLObjectType
    is_type_of: Callable[[Any, Any], Any] | None
    fields: "list[FieldPlan]"
    has_deferred: bool
    nullable: bool = True


@dataclass(slots=True)
class FieldPlan:
    """`plan` is None for `__typename` and for a deferred field, which has `details`."""

    key: str
    attribute: str
    plan: "Plan | None" = None
    details: FieldDetailsList | None = None


Plan: TypeAlias = LeafPlan | ListPlan | ObjectPlan


class Planner:
    """Decides which part of a selection is plain data."""

    def __init__(self, schema: GraphQLSchema, collect: Collect) -> None:
        self._schema = schema
        self._collect = collect

    def output(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, lists: int, objects: int
    ) -> Plan | None:
        """The plan for a type, or None where the stock executor is needed."""
        if not isinstance(type_, GraphQLNonNull):
            return self.nullable(type_, fields, lists, objects)
        plan = self.nullable(type_.of_type, fields, lists, objects)
        if plan is not None:
            plan.nullable = False
        return plan

    def nullable(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, lists: int, objects: int
    ) -> Plan | None:
        """The same for a type that is not wrapped in non-null."""
        if is_leaf_type(type_):
            return LeafPlan(type_)
        if isinstance(type_, GraphQLList) and lists < MAX_LISTS:
            item = self.output(type_.of_type, fields, lists + 1, objects)
            return ListPlan(item, item.has_deferred) if item else None
        if isinstance(type_, GraphQLObjectType) and objects < MAX_OBJECTS:
            # A type's own `is_type_of` may need the resolve info, which compiled functions lack.
            if type_.is_type_of and not _is_strawberrys_own_check(type_):
                return None
            return self.object(type_, fields, lists, objects)
        return None

    def object(
        self, type_: GraphQLObjectType, fields: FieldDetailsList, lists: int, objects: int
    ) -> ObjectPlan:
        """The plan for the fields selected on an object."""
        plans = [
            self._field(index, type_, key, details, lists, objects)
            for index, (key, details) in enumerate(self._collect(type_, fields).items())
        ]
        has_deferred = any(
            field.details is not None or (field.plan is not None and field.plan.has_deferred)
            for field in plans
        )
        is_type_of = type_.is_type_of if _is_strawberrys_own_check(type_) else None
        return ObjectPlan(type_, is_type_of, plans, has_deferred)

    def _field(
        self,
        index: int,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        lists: int,
        objects: int,
    ) -> FieldPlan:
        name = details[0].node.name.value
        if name == "__typename":
            return FieldPlan(key, "")
        field = self._schema.get_field(parent, name)
        attribute = plain_attribute(field)
        if field is None or attribute is None:
            return FieldPlan(key, "", details=details)
        plan = self.output(field.type, details, lists, objects + 1)
        return FieldPlan(key, attribute, plan, details=None if plan else details)


def plain_attribute(field: GraphQLField | None) -> str | None:
    """The attribute that a field without a resolver reads; None for every other field."""
    definition = field.extensions.get("strawberry-definition") if field else None
    if field is None or not isinstance(definition, StrawberryField):
        return None
    is_plain = (
        definition.is_basic_field
        and not field.args
        and definition.default_resolver is getattr
        and type(definition).get_result is StrawberryField.get_result
        # Strawberry's resolver of a field without extensions and exception handlers.
        and getattr(field.resolve, "__name__", "") == "_get_basic_result"
    )
    name = definition.python_name
    return name if is_plain and name.isidentifier() and not keyword.iskeyword(name) else None


def _is_strawberrys_own_check(type_: GraphQLObjectType) -> bool:
    definition = type_.extensions.get("strawberry-definition")
    return isinstance(definition, StrawberryObjectDefinition) and not definition.is_type_of
