"""How many items the lists of a response may have, known before a resolver runs.

The size of every list field is declared. A slicing argument works as the cost specification
defines it for `@listSize(slicingArguments:)`: https://ibm.github.io/graphql-specs/cost-spec.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_list_type,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal


@dataclass(frozen=True, slots=True)
class SlicingArgument:
    """The argument of a root field says how many items the list has at most.

    The items count towards `Limits.items`. A length below 1 or above `most` counts nothing: the
    resolver rejects it.

    Attributes:
        field: the coordinate of the root field: `Query.books`.
        argument: its name.
        most: the largest length that the resolver accepts.
    """

    field: str
    argument: str
    most: int


@dataclass(frozen=True, slots=True)
class InputList:
    """The list has at most one item for each item of a list that the client sent.

    `Limits.length` and `variables.MAX_VALUES` limit such lists.

    Attributes:
        field: the coordinate of the field that has the argument: `Mutation.deleteBooks`.
        argument: the argument that the client's list is in.
    """

    field: str
    argument: str


@dataclass(frozen=True, slots=True)
class ConstantSize:
    """The list has at most `most` items, lists in it included.

    Below a field with a slicing argument, each of the sliced items counts `most` times.
    """

    most: int


DeclaredSize: TypeAlias = SlicingArgument | InputList | ConstantSize


class ListSizes:
    """The declared sizes of all list fields of a schema.

    Args:
        schema: the schema.
        declared: a size by the coordinate of the list field: `Book.authors`.

    Attributes:
        slicing: the slicing arguments by the root field's coordinate.
        constants: the constant sizes by the list field's coordinate.

    Raises:
        ValueError: a list field has no declared size, or a declaration does not fit the schema.
    """

    def __init__(self, schema: GraphQLSchema, declared: Mapping[str, DeclaredSize]) -> None:
        self.slicing: dict[str, SlicingArgument] = {}
        self.constants: dict[str, int] = {}
        lists = list(list_fields(schema))
        if missing := [name for name in lists if name not in declared]:
            raise ValueError(f"No list size is declared for {', '.join(missing)}")
        for name, size in declared.items():
            if name not in lists:
                raise ValueError(f"A list size is declared for {name}, which is not a list field")
            self._add(schema, name, size)

    def _add(self, schema: GraphQLSchema, name: str, size: DeclaredSize) -> None:
        if isinstance(size, ConstantSize):
            self.constants[name] = size.most
            return
        type_name, _, field_name = size.field.partition(".")
        type_ = schema.get_type(type_name)
        field = type_.fields.get(field_name) if isinstance(type_, GraphQLObjectType) else None
        if field is None or size.argument not in field.args:
            raise ValueError(f"{name}: {size.field} has no argument {size.argument!r}")
        if isinstance(size, InputList):
            if not is_list_type(get_nullable_type(field.args[size.argument].type)):
                raise ValueError(f"{name}: argument {size.argument!r} of {size.field} is no list")
            return
        if type_ not in (schema.query_type, schema.mutation_type):
            raise ValueError(f"{name}: {size.field} is not a root field")
        if self.slicing.setdefault(size.field, size) != size:
            raise ValueError(f"{name}: {size.field} has another slicing argument already")


def list_fields(schema: GraphQLSchema) -> Iterator[str]:
    """The coordinates of all fields of object types whose type is a list, without introspection."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                if is_list_type(get_nullable_type(field.type)):
                    yield f"{type_.name}.{name}"


class ListSize(NamedTuple):
    """The size of the lists below a root field, in one selection."""

    variable: str
    """The variable that has the length, or an empty name."""
    length: int
    """The length if no variable has it."""
    most: int
    copies: int
    """How often an item is in the response: as often as its most repeated leaf."""

    def items(self, variables: Mapping[str, Any]) -> int:
        """How many items the response may have, copies included."""
        length = variables.get(self.variable)
        if length is None:
            length = self.length
        return length * self.copies if 1 <= length <= self.most else 0


def find_list_size(
    field: GraphQLField, node: FieldNode, slicing: SlicingArgument, copies: int
) -> ListSize:
    """The size that a root field selects, as far as it is known without the variables."""
    argument = field.args[slicing.argument]
    value = _argument_value(node, slicing.argument)
    length = None
    if value and not isinstance(value, VariableNode):
        length = coerce_input_literal(value, argument.type)
    if length is None:
        length = coerce_default_value(argument)
    if not isinstance(length, int):
        length = slicing.most
    variable = value.name.value if isinstance(value, VariableNode) else ""
    return ListSize(variable, length, slicing.most, copies)


def _argument_value(node: FieldNode, name: str) -> ValueNode | None:
    return next((each.value for each in node.arguments or () if each.name.value == name), None)
