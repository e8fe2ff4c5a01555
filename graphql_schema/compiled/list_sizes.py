"""How many items the lists of an answer may have, known before anything runs.

An argument says how long the lists below a field are at most, as the cost specification has it
for `@listSize(slicingArguments:)`: https://ibm.github.io/graphql-specs/cost-spec.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphql import FieldNode, GraphQLField, ValueNode, VariableNode
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal


@dataclass(frozen=True, slots=True)
class Paging:
    """How a root field is told the length of the lists below it.

    A length below 1 or above `most` counts nothing: the resolver refuses it in its own words.
    """

    argument: str
    most: int


class Page(NamedTuple):
    """A root field that pages, as one selection has it."""

    variable: str
    """What says the length, or an empty name."""
    length: int
    """The length where no variable says it."""
    most: int
    copies: int
    """How often an item stands in the answer: as often as the most repeated leaf of it."""

    def items(self, variables: Mapping[str, Any]) -> int:
        """How many items the answer may have of it, copies counted."""
        length = variables.get(self.variable)
        if length is None:
            length = self.length
        return length * self.copies if 1 <= length <= self.most else 0


def find_page(field: GraphQLField, node: FieldNode, paging: Paging, copies: int) -> Page:
    """The page that a field asks for, as far as it is known without the variables."""
    argument = field.args[paging.argument]
    value = _given(node, paging.argument)
    length = None
    if value and not isinstance(value, VariableNode):
        length = coerce_input_literal(value, argument.type)
    if length is None:
        length = coerce_default_value(argument)
    if not isinstance(length, int):
        length = paging.most
    variable = value.name.value if isinstance(value, VariableNode) else ""
    return Page(variable, length, paging.most, copies)


def _given(node: FieldNode, name: str) -> ValueNode | None:
    return next((each.value for each in node.arguments or () if each.name.value == name), None)
