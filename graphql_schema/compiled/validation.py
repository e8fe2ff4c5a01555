"""graphql-core's validation at a bounded cost: fewer nodes, fewer rules, few errors.

The result is graphql-core's: a document is valid or not as there. Skipped are name nodes, which
no rule visits, and rules about features that the schema does not have.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from graphql import (
    SKIP,
    ASTValidationRule,
    BooleanValueNode,
    DocumentNode,
    EnumValueNode,
    FloatValueNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    Node,
    NoUndefinedVariablesRule,
    NoUnusedVariablesRule,
    NullValueNode,
    OperationDefinitionNode,
    OverlappingFieldsCanBeMergedRule,
    ParallelVisitor,
    SingleFieldSubscriptionsRule,
    StringValueNode,
    TypeInfo,
    TypeInfoVisitor,
    ValidationContext,
    VariableNode,
    VariablesInAllowedPositionRule,
    Visitor,
    VisitorAction,
    specified_rules,
    visit,
)
from graphql.language.ast import QUERY_DOCUMENT_KEYS
from graphql.language.visitor import EnterLeaveVisitor
from graphql.pyutils import RefMap
from graphql.validation.rules.defer_stream_directive_label import DeferStreamDirectiveLabel
from graphql.validation.rules.defer_stream_directive_on_root_field import (
    DeferStreamDirectiveOnRootField,
)
from graphql.validation.rules.defer_stream_directive_on_valid_operations_rule import (
    DeferStreamDirectiveOnValidOperationsRule,
)
from graphql.validation.rules.stream_directive_on_list_field import StreamDirectiveOnListField
from graphql.validation.validation_context import VariableUsage

MAX_ERRORS: Final = 5
"""Validation stops after this many errors."""

MAX_MESSAGES_LENGTH: Final = 2_000
"""Validation stops after this many characters of messages: several messages may repeat the same
long value."""

_KEYS_BUT_NAMES: Final = {
    kind: tuple(key for key in keys if key not in ("alias", "description", "name"))
    for kind, keys in QUERY_DOCUMENT_KEYS.items()
}
"""The attributes of a node that are visited."""

_INCREMENTAL: Final = (
    DeferStreamDirectiveLabel,
    DeferStreamDirectiveOnRootField,
    DeferStreamDirectiveOnValidOperationsRule,
    StreamDirectiveOnListField,
)


def rules_for(schema: GraphQLSchema) -> tuple[type[ASTValidationRule], ...]:
    """The specified rules, without those that no document for this schema can violate.

    The remaining rules reject directives and operations that the schema does not have.
    """
    idle: set[type[ASTValidationRule]] = set()
    if not schema.subscription_type:
        idle.add(SingleFieldSubscriptionsRule)
    if not any(directive.name in ("defer", "stream") for directive in schema.directives):
        idle.update(_INCREMENTAL)
    return tuple(rule for rule in specified_rules if rule not in idle)


_OF_VARIABLES: Final = (
    NoUndefinedVariablesRule,
    NoUnusedVariablesRule,
    VariablesInAllowedPositionRule,
)
"""These rules visit definitions, and read the variable usages collected before."""
_DEFINITIONS: Final = {"document": ("definitions",)}
_LAST: Final = (OverlappingFieldsCanBeMergedRule,)
"""This rule compares fields in pairs; it is skipped if there are enough errors already."""


class _Enough(Exception):
    """The limit on errors is reached."""


class _Parallel(ParallelVisitor):
    """As graphql-core's, but calls for each kind of node only the visitors that visit that kind."""

    def get_enter_leave_for_kind(self, kind: str) -> EnterLeaveVisitor:
        functions = self.enter_leave_map.get(kind)
        if functions is None:
            active = [
                (index, *visitor.get_enter_leave_for_kind(kind))
                for index, visitor in enumerate(self.visitors)
            ]
            active = [each for each in active if each[1] or each[2]]
            functions = EnterLeaveVisitor(*self._enter_leave(active)) if active else _NOTHING
            self.enter_leave_map[kind] = functions
        return functions

    def _enter_leave(self, active: list[tuple[int, Any, Any]]) -> tuple[Any, Any]:
        skipping = self.skipping

        def enter(*arguments: Any) -> None:
            for index, function, _ in active:
                # A validation rule returns SKIP or None, and no other value.
                if function and not skipping[index] and function(*arguments) is SKIP:
                    skipping[index] = arguments[0]

        def leave(*arguments: Any) -> None:
            for index, _, function in active:
                if not skipping[index]:
                    if function:
                        function(*arguments)
                elif skipping[index] is arguments[0]:
                    skipping[index] = None

        return enter, leave


_NOTHING: Final = EnterLeaveVisitor(None, None)


class _Visitor(TypeInfoVisitor):
    """Skips the items of a list of constants: the rule about values checks the whole list."""

    def enter(self, node: Node, *arguments: Any) -> Any:
        result = super().enter(node, *arguments)
        if result is None and isinstance(node, ListValueNode) and _is_constant(node):
            self.leave(node, *arguments)
            return SKIP
        return result


def _is_constant(node: ListValueNode) -> bool:
    return all(isinstance(value, _CONSTANTS) for value in node.values)


_CONSTANTS: Final = (
    BooleanValueNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    NullValueNode,
    StringValueNode,
)


class _Context(ValidationContext):
    """Looks nodes up by identity. graphql-core hashes the whole document by value each time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        by_identity: Any = [RefMap(), RefMap(), RefMap()]
        self._fragment_spreads, self._variable_usages, self._recursive_variable_usages = by_identity

    def collect_usages(self) -> Visitor:
        """A visitor that collects the variable usages in the same pass as the rules."""
        return _UsageCollector(self, self._variable_usages)


class _UsageCollector(Visitor):
    """Collects the variables that each definition uses, as `VariableUsageVisitor` does."""

    def __init__(self, context: ValidationContext, usages: Any) -> None:
        super().__init__()
        self._context = context
        self._usages = usages
        self._current: list[VariableUsage] = []

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        self._current = self._usages[node] = []

    def enter_fragment_definition(self, node: FragmentDefinitionNode, *_: Any) -> None:
        self._current = self._usages[node] = []

    def enter_variable_definition(self, *_: Any) -> VisitorAction:
        return SKIP

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        types = self._context._type_info
        usage = VariableUsage(
            node,
            types.get_input_type(),
            types.get_parent_input_type(),
            types.get_default_value(),
            None,
        )
        self._current.append(usage)


def validate(
    schema: GraphQLSchema,
    document: DocumentNode,
    rules: Sequence[type[ASTValidationRule]],
    *,
    hide_suggestions: bool,
) -> list[GraphQLError]:
    """The first errors of a document, at most `MAX_ERRORS`.

    The document nests no deeper than the limits allow, fragments included.
    """
    errors: list[GraphQLError] = []
    types = TypeInfo(schema)

    def report(error: GraphQLError) -> None:
        errors.append(error)
        if len(errors) == MAX_ERRORS or sum(len(e.message) for e in errors) > MAX_MESSAGES_LENGTH:
            raise _Enough

    context = _Context(schema, document, types, report, hide_suggestions)

    def run(visitors: Sequence[Visitor], keys: Mapping[str, tuple[str, ...]]) -> None:
        visit(document, _Visitor(types, _Parallel(visitors)), dict(keys))

    with suppress(_Enough):
        first = [rule(context) for rule in rules if rule not in _OF_VARIABLES + _LAST]
        run([context.collect_usages(), *first], _KEYS_BUT_NAMES)
        run([rule(context) for rule in rules if rule in _OF_VARIABLES], _DEFINITIONS)
        run([rule(context) for rule in rules if rule in _LAST], _KEYS_BUT_NAMES)
    return errors
