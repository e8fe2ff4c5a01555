"""How many items the lists of a response may have, known before a resolver runs.

The size of every list field is declared. A slicing argument works as the cost specification
defines it for `@listSize(slicingArguments:)`: https://ibm.github.io/graphql-specs/cost-spec.html
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    ListValueNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal


@dataclass(frozen=True, slots=True)
class SlicingArgument:
    """Arguments of a root field say how many items the list has at most.

    The items count towards `Limits.items`. A length below 1 or above `most` counts nothing: the
    resolver rejects it, or the list is empty. If it has several lengths, they are added.

    Attributes:
        field: the coordinate of the root field: `Query.books`.
        arguments: their names, separated by spaces: `first last`. Of a list the length counts.
        most: the largest length that the resolver accepts.
        default: the length if no argument has one; `None` means `most`.
        items_a_unit: the root field costs one unit for every so many items begun; `None` if it
            costs one, however many there are.
    """

    field: str
    arguments: str
    most: int
    default: int | None = None
    items_a_unit: int | None = None

    @property
    def names(self) -> list[str]:
        """The arguments' names."""
        return self.arguments.split()


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


@dataclass(frozen=True, slots=True)
class LeafList:
    """The list has at most `most` short leaves. It counts like one leaf: with its object."""

    most: int


DeclaredSize: TypeAlias = SlicingArgument | InputList | ConstantSize | LeafList


class ListSizes:
    """The declared sizes of all list fields of a schema.

    Args:
        schema: the schema.
        declared: a size by the coordinate of the list field: `Book.authors`. Several, if
            several root fields have the list.

    Attributes:
        slicing: the slicing arguments by the root field's coordinate.
        constants: the constant sizes by the list field's coordinate.

    Raises:
        ValueError: a list field has no declared size, or a declaration does not fit the schema.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        declared: Mapping[str, DeclaredSize | Sequence[SlicingArgument]],
    ) -> None:
        self.slicing: dict[str, SlicingArgument] = {}
        self.constants: dict[str, int] = {}
        lists = list(list_fields(schema))
        if missing := [name for name in lists if name not in declared]:
            raise ValueError(f"No list size is declared for {', '.join(missing)}")
        for name, size in declared.items():
            if name not in lists:
                raise ValueError(f"A list size is declared for {name}, which is not a list field")
            for each in size if isinstance(size, Sequence) else [size]:
                self._add(schema, name, each)

    def _add(self, schema: GraphQLSchema, name: str, size: DeclaredSize) -> None:
        if isinstance(size, ConstantSize):
            self.constants[name] = size.most
            return
        if isinstance(size, LeafList):
            _require_leaves(schema, name)
            return
        type_name, _, field_name = size.field.partition(".")
        type_ = schema.get_type(type_name)
        field = type_.fields.get(field_name) if isinstance(type_, GraphQLObjectType) else None
        names = size.names if isinstance(size, SlicingArgument) else [size.argument]
        for argument in names:
            if field is None or argument not in field.args:
                raise ValueError(f"{name}: {size.field} has no argument {argument!r}")
        if isinstance(size, InputList):
            assert field is not None
            if not is_list_type(get_nullable_type(field.args[size.argument].type)):
                raise ValueError(f"{name}: argument {size.argument!r} of {size.field} is no list")
            return
        if type_ not in (schema.query_type, schema.mutation_type):
            raise ValueError(f"{name}: {size.field} is not a root field")
        if self.slicing.setdefault(size.field, size) != size:
            raise ValueError(f"{name}: {size.field} has another slicing argument already")


def _require_leaves(schema: GraphQLSchema, name: str) -> None:
    type_name, _, field_name = name.partition(".")
    type_ = schema.get_type(type_name)
    assert isinstance(type_, GraphQLObjectType)
    if not is_leaf_type(get_named_type(type_.fields[field_name].type)):
        raise ValueError(f"{name}: its items are not leaves")


def list_fields(schema: GraphQLSchema) -> Iterator[str]:
    """The coordinates of all fields of object types whose type is a list, without introspection."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                if is_list_type(get_nullable_type(field.type)):
                    yield f"{type_.name}.{name}"


class ListSize(NamedTuple):
    """The size of the lists below a root field, in one selection."""

    variables: Sequence[str]
    """The variables that have a length."""
    length: int | None
    """The length in the document itself, if it has one."""
    default: int
    """The length if neither has one."""
    most: int
    copies: int
    """How often an item is in the response: as often as its most repeated leaf."""
    items_a_unit: int | None

    def items(self, variables: Mapping[str, Any]) -> int:
        """How many items the response may have, copies included."""
        return self._length(variables) * self.copies

    def units(self, variables: Mapping[str, Any]) -> int:
        """What the root field costs, at least 1."""
        if self.items_a_unit is None:
            return 1
        return max(1, -(-self._length(variables) // self.items_a_unit))

    def _length(self, variables: Mapping[str, Any]) -> int:
        lengths = [
            _length(value) for name in self.variables if (value := variables.get(name)) is not None
        ]
        if self.length is not None:
            lengths.append(self.length)
        length = sum(lengths) if lengths else self.default
        return length if 1 <= length <= self.most else 0


def _length(value: Any) -> int:
    length: int = len(value) if isinstance(value, list) else value
    return length


def find_list_size(
    field: GraphQLField, node: FieldNode, slicing: SlicingArgument, copies: int
) -> ListSize:
    """The size that a root field selects, as far as it is known without the variables."""
    variables: list[str] = []
    lengths: list[int] = []
    default = slicing.most if slicing.default is None else slicing.default
    for name in slicing.names:
        argument, value = field.args[name], _argument_value(node, name)
        by_default = coerce_default_value(argument)
        if isinstance(by_default, int):
            default = by_default
        if isinstance(value, VariableNode):
            variables.append(value.name.value)
        elif isinstance(value, ListValueNode):
            lengths.append(len(value.values))
        elif value and isinstance(read := coerce_input_literal(value, argument.type), int | list):
            lengths.append(_length(read))
    length = sum(lengths) if lengths else None
    return ListSize(variables, length, default, slicing.most, copies, slicing.items_a_unit)


def _argument_value(node: FieldNode, name: str) -> ValueNode | None:
    return next((each.value for each in node.arguments or () if each.name.value == name), None)
