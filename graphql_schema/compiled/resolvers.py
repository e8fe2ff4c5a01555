"""Strawberry's resolvers, with their arguments' names and types looked up once per schema.

Strawberry looks up the type and the camel-cased name of every argument and input field each
time a resolver runs. Fields with other features (field extensions, permissions, `Maybe`, inputs
that construct themselves) keep Strawberry's own wrapper.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, Final, NamedTuple, TypeAlias, cast

import strawberry
from graphql import (
    GraphQLFieldResolver,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLObjectType,
    MiddlewareManager,
    get_named_type,
)
from strawberry.relay.types import GlobalID
from strawberry.schema.compat import is_scalar
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryObjectDefinition,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver
from strawberry.types.lazy_type import LazyType
from strawberry.types.unset import UNSET

AS_MEMBERS: Final = "as_members"
"""In the `metadata` of a `strawberry.argument`: the resolver gets each input object as a mapping of
the members that the client sent and of defaults, by their Python names, and no instance."""


class PreparedResolvers(MiddlewareManager):
    """A middleware manager: graphql-core gets from it the function to call for a resolver."""

    def __init__(self, schema: strawberry.Schema) -> None:
        super().__init__()
        self._prepared: dict[GraphQLFieldResolver, GraphQLFieldResolver] = {}
        for type_ in schema._schema.type_map.values():
            if isinstance(type_, GraphQLObjectType):
                self._prepare(type_, schema)

    def _prepare(self, type_: GraphQLObjectType, schema: strawberry.Schema) -> None:
        for field in type_.fields.values():
            definition = field.extensions.get("strawberry-definition")
            if field.resolve and isinstance(definition, StrawberryField):
                prepared = prepare_resolver(definition, schema)
                if prepared:
                    self._prepared[field.resolve] = prepared
                for argument in field.args.values():
                    marked = argument.extensions["strawberry-definition"].metadata
                    if marked.get(AS_MEMBERS, False):
                        assert prepared, f"{definition.name}: Strawberry itself makes instances"
                        name_members(argument.type)

    def get_field_resolver(self, field_resolver: GraphQLFieldResolver) -> GraphQLFieldResolver:
        """The prepared resolver, or `field_resolver` if there is none."""
        return self._prepared.get(field_resolver, field_resolver)


def prepare_resolver(
    field: StrawberryField, schema: strawberry.Schema
) -> GraphQLFieldResolver | None:
    """A function equivalent to Strawberry's wrapper of this field, or None if there is none."""
    resolver = field.base_resolver
    if resolver is None or not _is_usual(field, resolver):
        return None
    arguments = [_argument(argument, schema) for argument in field.arguments]
    usual = [argument for argument in arguments if argument is not None]
    if len(usual) < len(arguments):
        return None
    return _wrap(field, resolver, usual, schema)


def name_members(type_: GraphQLInputType) -> None:
    """Let graphql-core name an input object's members as Python does, lists and objects within."""
    named = get_named_type(type_)
    if isinstance(named, GraphQLInputObjectType):
        for field in named.fields.values():
            name = field.extensions["strawberry-definition"].python_name
            if field.out_name != name:
                field.out_name = name
                name_members(field.type)


def _is_usual(field: StrawberryField, resolver: StrawberryResolver[Any]) -> bool:
    return (
        not field.extensions
        and not field.is_subscription
        and type(field).get_result is StrawberryField.get_result
        and type(resolver).__call__ is StrawberryResolver.__call__
        and callable(resolver.wrapped_func)
    )


def _wrap(
    field: StrawberryField,
    resolver: StrawberryResolver[Any],
    arguments: "list[Argument]",
    schema: strawberry.Schema,
) -> GraphQLFieldResolver:
    function = cast("Callable[..., Any]", resolver.wrapped_func)
    takes_self = resolver.self_parameter is not None
    for_source = [
        parameter.name
        for parameter in (resolver.parent_parameter, resolver.root_parameter)
        if parameter
    ]
    info_name = resolver.info_parameter.name if resolver.info_parameter else None
    info_class = schema.config.info_class

    def resolve(source: Any, info: Any, **values: Any) -> Any:
        kwargs: dict[str, Any] = {}
        for name, python_name, convert in arguments:
            if name in values:
                value = values[name]
                kwargs[python_name] = value if convert is _same else convert(value)
        for name in for_source:
            kwargs[name] = source
        if info_name:
            kwargs[info_name] = info_class(_raw_info=info, _field=field)
        # What an asynchronous function returns is awaited by graphql-core.
        return function(source, **kwargs) if takes_self else function(**kwargs)

    return resolve


Convert: TypeAlias = Callable[[Any], Any]


class Argument(NamedTuple):
    """An argument of a field, or a field of an input."""

    name: str
    python_name: str
    convert: Convert


def _argument(argument: StrawberryArgument, schema: strawberry.Schema) -> Argument | None:
    is_plain = argument.metadata.get(AS_MEMBERS, False)
    convert = _same if is_plain else Converters(schema).find(argument.type)
    name = schema.config.name_converter.from_argument(argument)
    return Argument(name, argument.python_name, convert) if convert else None


class Converters:
    """Finds the function that converts coerced values of a type as Strawberry does."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config = schema.config
        self._scalars = schema.schema_converter.scalar_registry
        self._open: set[int] = set()

    def find(self, type_: Any) -> Convert | None:
        """The conversion of values that graphql-core has coerced; None if it is not supported."""
        if isinstance(type_, StrawberryMaybe) or type_ is GlobalID:
            return None
        if isinstance(type_, StrawberryOptional):
            return self.find(type_.of_type)
        if isinstance(type_, StrawberryList):
            return self._list(type_)
        if isinstance(type_, LazyType):
            return self.find(type_.resolve_type())
        if isinstance(type_, StrawberryEnumDefinition) or has_enum_definition(type_):
            return _same
        if is_scalar(type_, self._scalars):
            return _same
        return self._input(type_) if has_object_definition(type_) else None

    def _list(self, type_: StrawberryList) -> Convert | None:
        item = self.find(type_.of_type)
        if item is None:
            return None

        def convert(value: Any) -> Any:
            if value is None or value is UNSET:
                return value
            # A new list even of scalars: graphql-core passes the same default list to every call.
            return list(value) if item is _same else [item(each) for each in value]

        return convert

    def _input(self, type_: Any) -> Convert | None:
        definition: StrawberryObjectDefinition = type_.__strawberry_definition__
        if id(type_) in self._open or definition.from_input or not definition.is_input:
            return None
        self._open.add(id(type_))
        fields = [self._field(field, definition) for field in definition.fields]
        self._open.remove(id(type_))
        usual = [field for field in fields if field is not None]
        return _builder(type_, definition, usual) if len(usual) == len(fields) else None

    def _field(
        self, field: StrawberryField, definition: StrawberryObjectDefinition
    ) -> Argument | None:
        convert = self.find(field.resolve_type(type_definition=definition))
        name = self._config.name_converter.from_field(field)
        return Argument(name, field.python_name, convert) if convert else None


def _builder(
    type_: Callable[..., Any], definition: StrawberryObjectDefinition, fields: list[Argument]
) -> Convert:
    # As in Strawberry, nullable fields without a default are None.
    implied = {
        field.python_name: None
        for field in definition.fields
        if field.default_value is MISSING and field.default_factory is MISSING
    }

    def convert(value: Mapping[str, Any] | None) -> Any:
        if value is None or value is UNSET:
            return value
        kwargs: dict[str, Any] = dict(implied)
        for name, python_name, convert_field in fields:
            if name in value:
                kwargs[python_name] = convert_field(value[name])
        return type_(**kwargs)

    return convert


def _same(value: Any) -> Any:
    """Stands for no conversion, and is not called where an argument is one value."""
    return value
