"""Writes the lines of Python that check a leaf value and convert it for msgspec.

A value passes only if the stock executor would write the same JSON for it.
"""

import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLString,
    Undefined,
)
from strawberry.schema.schema_converter import CustomGraphQLEnumType


class UnexpectedValue(Exception):
    """The compiled function does not expect this value; the stock executor completes it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A quick way to write a custom scalar; it must agree with the scalar's `serialize`.

    Attributes:
        type: the exact type of the values. The stock executor completes values of other types.
        to_wire: converts a value for msgspec. If it raises, the stock executor completes the
            value.
        as_is: a Python expression, in which `{0}` stands for the value. Where it is true,
            msgspec gets the value itself.
        names: the other names in `as_is`.
    """

    type: type
    to_wire: Callable[[Any], Any]
    as_is: str = "False"
    names: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        compile(self.as_is.format("value"), "<as_is>", "eval")
        for name in self.names:
            if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
                raise ValueError(f"{name!r} cannot name a constant of a leaf")


Constant = Callable[[Any], str]
"""Adds a Python object to the generated code's globals and returns its name."""


def write_leaf(
    type_: GraphQLLeafType,
    value: str,
    nullable: bool,
    leaves: Mapping[str, Leaf],
    constant: Constant,
) -> Iterator[str]:
    """Lines that check the variable `value` and set it to what msgspec encodes."""
    if leaf := leaves.get(type_.name):
        lines = _custom(leaf, value, constant)
    elif isinstance(type_, CustomGraphQLEnumType):
        lines = _enum(type_, value, constant)
    elif write := _BUILT_IN.get(type_):
        lines = write(value)
    else:
        lines = _serialized(type_, value, constant)
    if not nullable:
        yield from lines
        return
    yield f"if {value} is not None:"
    yield from (f"    {line}" for line in lines)


def _string(value: str) -> list[str]:
    return [f"if type({value}) is not str: raise UnexpectedValue"]


def _id(value: str) -> list[str]:
    return [
        f"if type({value}) is int: {value} = str({value})",
        f"elif type({value}) is not str: raise UnexpectedValue",
    ]


def _boolean(value: str) -> list[str]:
    return [f"if {value} is not True and {value} is not False: raise UnexpectedValue"]


def _int(value: str) -> list[str]:
    return [
        f"if type({value}) is not int or not -{2**31} <= {value} < {2**31}: raise UnexpectedValue"
    ]


def _float(value: str) -> list[str]:
    # False for infinities and for NaN.
    return [f"if type({value}) is not float or {value} - {value} != 0.0: raise UnexpectedValue"]


_BUILT_IN: Mapping[GraphQLLeafType, Callable[[str], list[str]]] = {
    GraphQLString: _string,
    GraphQLID: _id,
    GraphQLBoolean: _boolean,
    GraphQLInt: _int,
    GraphQLFloat: _float,
}


def _custom(leaf: Leaf, value: str, constant: Constant) -> list[str]:
    as_is = leaf.as_is.format(value)
    return [
        f"if type({value}) is not {constant(leaf.type)}: raise UnexpectedValue",
        f"if not ({as_is}): {value} = {constant(leaf.to_wire)}({value})",
    ]


def _enum(type_: CustomGraphQLEnumType, value: str, constant: Constant) -> list[str]:
    members: Iterable[Enum] = type_.wrapped_cls
    names = {member.name: type_.coerce_output_value(member) for member in members}
    # Like graphql-core, Strawberry also takes the value of a member for the member.
    by_value = {member.value: names[member.name] for member in members if _is_text(member)}
    return [
        f"if type({value}) is str: {value} = {constant(by_value)}[{value}]",
        f"elif type({value}) is not {constant(type_.wrapped_cls)}: raise UnexpectedValue",
        f"else: {value} = {constant(names)}[{value}._name_]",
    ]


def _is_text(member: Enum) -> bool:
    return type(member.value) is str


def _serialized(type_: GraphQLLeafType, value: str, constant: Constant) -> list[str]:
    return [
        f"if type({value}) not in PLAIN: require_plain({value})",
        f"{value} = {constant(_serializer(type_))}({value})",
    ]


def _serializer(type_: GraphQLLeafType) -> Callable[[Any], Any]:
    def serialize(value: Any) -> Any:
        written = type_.coerce_output_value(value)
        if written is None or written is Undefined:
            raise UnexpectedValue
        return written

    return serialize
