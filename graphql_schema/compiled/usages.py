"""How an operation uses its variables, in its own selections and in those of its fragments."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from graphql import (
    DirectiveNode,
    ExecutableDefinitionNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    NonNullTypeNode,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    VariableNode,
    Visitor,
    is_non_null_type,
    visit,
)


class Usages(NamedTuple):
    """The names of an operation's variables that are used in special ways."""

    conditions: tuple[str, ...] = ()
    """Variables in `@skip` and `@include`."""
    never_null: tuple[str, ...] = ()
    """Nullable variables that are used where null is not allowed.

    Validation allows them if they have a default value. An explicit null fails only when its
    field is executed, which can be after another field of a mutation has run.
    """


def find_usages(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
) -> Usages:
    """The special usages of an operation's own variables.

    Fragments that only another operation spreads are ignored: that operation may have a variable
    of the same name and of another type.
    """
    declared = operation.variable_definitions
    if not declared:
        return Usages()
    types = TypeInfo(schema)
    finder = _Finder(types)
    for definition in _reached(operation, fragments, finder):
        visit(definition, TypeInfoVisitor(types, finder))
    names = [node.variable.name.value for node in declared]
    nullable = [
        node.variable.name.value for node in declared if not isinstance(node.type, NonNullTypeNode)
    ]
    return Usages(
        tuple(name for name in names if name in finder.conditions),
        tuple(name for name in nullable if name in finder.non_null),
    )


def _reached(
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    finder: "_Finder",
) -> Iterator[ExecutableDefinitionNode]:
    """The operation, then each fragment that it spreads, directly or through others, once."""
    yield operation
    reached: set[str] = set()
    while unvisited := finder.spreads - reached:
        for name in sorted(unvisited):
            reached.add(name)
            if fragment := fragments.get(name):
                yield fragment


class _Finder(Visitor):
    """Collects the names of variables and of spread fragments."""

    def __init__(self, types: TypeInfo) -> None:
        super().__init__()
        self.conditions: set[str] = set()
        self.non_null: set[str] = set()
        self.spreads: set[str] = set()
        self._types = types

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: Any) -> None:
        self.spreads.add(node.name.value)

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        if node.name.value in ("skip", "include"):
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    self.conditions.add(argument.value.name.value)

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        if is_non_null_type(self._types.get_input_type()):
            self.non_null.add(node.name.value)
