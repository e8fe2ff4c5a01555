"""The engine's front: prepare a document once, then execute its operations many times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    NoFragmentCyclesRule,
    NonNullTypeNode,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Undefined,
    VariableNode,
    Visitor,
    is_non_null_type,
    parse,
    specified_rules,
    validate,
    visit,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.executor import default_field_resolver, default_type_resolver
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from .cache import Cache
from .encoding import encode
from .executor import CompiledExecutor, Selection
from .leaves import Leaf
from .limits import CyclicFragments, Limits, check, fragments_of, over_limit
from .list_sizes import Paging
from .rejections import Refused, Stage
from .resolvers import PreparedResolvers
from .variables import VariableReader

SMALLEST = 16
"""What a document or a selection weighs before its tokens or fields are counted."""
MAX_SELECTIONS = 16
"""Combinations of conditions compiled for one operation; others run on the stock executor."""


@dataclass(slots=True)
class Answer:
    """What an execution came to."""

    data: bytes
    """JSON, `null` included."""
    errors: list[GraphQLError]


class CompiledSchema:
    """Prepares documents for a schema and keeps the prepared ones.

    Args:
        schema: without schema extensions, operation directives and incremental delivery.
        limits: what a document may not exceed.
        rules: validation rules on top of the specified ones.
        leaves: how custom scalars are written quickly, by the scalar's name.
        paging: the root fields whose items are limited, by coordinate: `Query.books`.
        hide_suggestions: leave "Did you mean" out of every message.
        refuse_nulls: refuse an explicit null for a variable that stands where null may not,
            before anything runs; stock fails at its field, when others have run.
        max_kept_tokens: tokens of all documents kept, about 1 KB each.
        max_kept_fields: fields of all compiled selections kept, about 2 KB each.

    Raises:
        ValueError: the schema needs machinery that does not run here.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        limits: Limits | None = None,
        rules: Sequence[type[ASTValidationRule]] = (),
        leaves: Mapping[str, Leaf] | None = None,
        paging: Mapping[str, Paging] | None = None,
        hide_suggestions: bool = False,
        refuse_nulls: bool = False,
        max_kept_tokens: int = 50_000,
        max_kept_fields: int = 25_000,
    ) -> None:
        _check_support(schema)
        self.graphql = schema._schema
        self.limits = limits or Limits()
        self.leaves = leaves or {}
        self.paging = paging or {}
        self.resolvers = PreparedResolvers(schema)
        self.hide_suggestions = hide_suggestions
        self.refuse_nulls = refuse_nulls
        self.selections: Cache[tuple[Operation, Conditions], Selection] = Cache(max_kept_fields)
        self._rules = (
            *specified_rules,
            MaybeNullValidationRule,
            OneOfInputValidationRule,
            *rules,
        )
        self._documents: Cache[str, Document] = Cache(max_kept_tokens)

    def prepare(self, text: str) -> "Document":
        """The document, parsed and validated; the next time at the price of a look-up.

        Refusals are not kept: whoever sends garbage pays for it each time, and pushes
        nobody's documents out.

        Raises:
            Refused: at `Stage.PARSE`, `LIMITS` or `VALIDATION`.
        """
        document = self._documents.get(text)
        if document is None:
            node = self._parse(text)
            fields = self._check_limits(node)
            self._validate(node, self._rules)
            document = Document(self, node, fields)
            self._documents.put(text, document, SMALLEST + node.token_count)
        return document

    def _parse(self, text: str) -> DocumentNode:
        limits = self.limits
        if len(text) > limits.length:
            raise over_limit("length", limits.length)
        try:
            return parse(text, max_tokens=limits.tokens)
        except GraphQLSyntaxError as error:
            if "tokens. Parsing aborted" in error.message:
                raise over_limit("tokens", limits.tokens) from None
            raise Refused(Stage.PARSE, [error]) from None
        except RecursionError:
            raise over_limit("depth", limits.depth) from None

    def _check_limits(self, node: DocumentNode) -> int:
        """How many fields the document has with its fragments written out."""
        try:
            return check(node, self.limits).fields
        except CyclicFragments:
            self._validate(node, (NoFragmentCyclesRule,))
            raise

    def _validate(self, node: DocumentNode, rules: Sequence[type[ASTValidationRule]]) -> None:
        errors = validate(self.graphql, node, rules, hide_suggestions=self.hide_suggestions)
        if errors:
            raise Refused(Stage.VALIDATION, errors)


class Document:
    """A valid document; `fields` are all it can select."""

    def __init__(self, schema: CompiledSchema, node: DocumentNode, fields: int) -> None:
        self._schema = schema
        self._node = node
        self._fields = fields
        self._operations: dict[str | None, Operation] = {}

    def operation(self, name: str | None = None) -> "Operation":
        """The operation of that name, or the only one.

        Raises:
            Refused: at `Stage.OPERATION`, when there is no such operation or the name is
                needed, and for subscriptions.
        """
        operation = self._operations.get(name)
        if operation is None:
            operation = Operation(self._schema, self._node, self._find(name), self._fields)
            self._operations[name] = operation
        return operation

    def _find(self, name: str | None) -> OperationDefinitionNode:
        nodes = [
            node for node in self._node.definitions if isinstance(node, OperationDefinitionNode)
        ]
        if name is not None:
            nodes = [node for node in nodes if node.name and node.name.value == name]
        if not nodes and name is None:
            raise _no_operation("Must provide an operation.")
        if not nodes:
            raise _no_operation(f"Unknown operation named '{name}'.")
        if len(nodes) > 1:
            raise _no_operation(
                "Must provide operation name if query contains multiple operations."
            )
        if nodes[0].operation is OperationType.SUBSCRIPTION:
            raise _no_operation("Subscriptions are not supported.")
        return nodes[0]


Conditions = tuple[Any, ...]
"""The values of the variables that `@skip` and `@include` depend on."""


class Operation:
    """One operation of a document."""

    def __init__(
        self,
        schema: CompiledSchema,
        document: DocumentNode,
        node: OperationDefinitionNode,
        fields: int,
    ) -> None:
        self._schema = schema
        self._fields = fields
        self._variables = VariableReader(schema.graphql, node, schema.hide_suggestions)
        self._conditions = _conditions(document, node)
        self._never_null = (
            _never_null(schema.graphql, document, node) if schema.refuse_nulls else ()
        )
        self._seen: set[Conditions] = set()
        self._executor = _executor(schema, document, node)

    @property
    def kind(self) -> OperationType:
        """Query or mutation."""
        return self._executor.operation.operation

    def bind(self, variables: Mapping[str, Any] | None = None) -> "Call":
        """The operation with its variables, ready to be priced and executed.

        Raises:
            Refused: at `Stage.VARIABLES`, with graphql-core's messages; at `LIMITS`, when it asks
                for too many items.
        """
        given = variables or {}
        for name in self._never_null:
            if name in given and given[name] is None:
                message = f"Variable '${name}' must not be null where it is used."
                raise Refused(Stage.VARIABLES, [GraphQLError(message)])
        values = self._variables.read(given)
        conditions = tuple([values.coerced.get(name, Undefined) for name in self._conditions])
        selection = self._schema.selections.get((self, conditions))
        if selection is None:
            selection = self._select(values, conditions)
        self._check_items(selection, values)
        return Call(self._executor, values, selection)

    def _select(self, values: VariableValues, conditions: Conditions) -> Selection:
        is_usual = all(type(value) is bool for value in conditions)
        is_usual = is_usual and (conditions in self._seen or len(self._seen) < MAX_SELECTIONS)
        selection = Selection(self._schema.leaves, compiles=is_usual)
        self._executor.fork(values, selection, None).select(self._schema.paging)
        if is_usual:
            self._seen.add(conditions)
            self._schema.selections.put((self, conditions), selection, SMALLEST + self._fields)
        return selection

    def _check_items(self, selection: Selection, values: VariableValues) -> None:
        limit = self._schema.limits.items
        asked = sum([page.items(values.coerced) for page in selection.pages])
        if asked > limit:
            more = f": it asks for {asked}, repetitions included"
            raise over_limit("list items", limit, more)


@dataclass(slots=True)
class Call:
    """One request's operation."""

    _executor: CompiledExecutor
    _values: VariableValues
    _selection: Selection

    @property
    def cost(self) -> int:
        """How many root fields it selects after `@skip` and `@include`; introspection is free."""
        return self._selection.cost

    async def execute(self, context: Any = None) -> Answer:
        """Run it; resolvers find `context` in their info."""
        data, errors = await self._executor.fork(self._values, self._selection, context).answer()
        return Answer(encode(data), errors)


def _check_support(schema: strawberry.Schema) -> None:
    unsupported = {
        "schema extensions": schema.extensions,
        "operation directives": schema.directives,
        "exception handlers": schema.exception_handlers,
        "incremental delivery": schema.config.enable_experimental_incremental_execution,
        "an execution context class": schema.execution_context_class
        is not StrawberryGraphQLCoreExecutionContext,
    }
    if used := [name for name, value in unsupported.items() if value]:
        raise ValueError(f"A compiled schema cannot have {', '.join(used)}")


def _no_operation(message: str) -> Refused:
    return Refused(Stage.OPERATION, [GraphQLError(message)])


def _executor(
    schema: CompiledSchema, document: DocumentNode, node: OperationDefinitionNode
) -> CompiledExecutor:
    fragments = fragments_of(document)
    return CompiledExecutor(
        schema.graphql,
        fragments,
        {name: FragmentDetails(fragment) for name, fragment in fragments.items()},
        None,
        None,
        node,
        VariableValues({}, {}),
        default_field_resolver,
        default_type_resolver,
        default_field_resolver,
        middleware_manager=schema.resolvers,
        is_awaitable=optimized_is_awaitable,
        hide_suggestions=schema.hide_suggestions,
    )


def _conditions(document: DocumentNode, operation: OperationDefinitionNode) -> tuple[str, ...]:
    """The operation's variables that `@skip` and `@include` mention anywhere in the document."""
    finder = ConditionFinder()
    visit(document, finder)
    declared = [node.variable.name.value for node in operation.variable_definitions or ()]
    return tuple(name for name in declared if name in finder.names)


def _never_null(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> tuple[str, ...]:
    """The operation's nullable variables that stand where null may not.

    A default lets them stand there. An explicit null would fail only at its field, at worst when
    a mutation has been carried out: so it is refused before anything runs.
    """
    types = TypeInfo(schema)
    finder = NonNullFinder(types)
    visit(document, TypeInfoVisitor(types, finder))
    nullable = [
        node.variable.name.value
        for node in operation.variable_definitions or ()
        if not isinstance(node.type, NonNullTypeNode)
    ]
    return tuple(name for name in nullable if name in finder.names)


class NonNullFinder(Visitor):
    """Finds the variables in places whose type is non-null."""

    def __init__(self, types: TypeInfo) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._types = types

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        if is_non_null_type(self._types.get_input_type()):
            self.names.add(node.name.value)


class ConditionFinder(Visitor):
    """Finds the variables given to `@skip` and `@include`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: Any, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.names.add(argument.value.name.value)
