"""A prepared document, its operations, and an operation with its variables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    MiddlewareManager,
    OperationDefinitionNode,
    OperationType,
    Undefined,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.executor import default_field_resolver, default_type_resolver
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.execution import optimized_is_awaitable

from . import weights
from .encoding import ENCODER, NOT_ENCODABLE, encode_any
from .executor import CompiledExecutor, Selection
from .leaves import Leaf
from .limits import fragments_of, over_limit
from .list_sizes import ListSizes
from .rejections import RequestRejected, Stage
from .statistics import Statistics
from .usages import find_usages
from .variables import VariableReader

MAX_SELECTIONS: Final = 16
"""Combinations of conditions compiled for one operation; others run on the stock executor."""

MAX_LABEL: Final = 100
"""Characters of an operation's label."""


@dataclass(slots=True)
class ExecutionResult:
    """The result of an execution."""

    data: bytes
    """JSON; `null` if an error has nulled the whole of it."""
    errors: list[GraphQLError]


class Runtime(NamedTuple):
    """What all documents of a schema share; see `CompiledSchema`."""

    schema: GraphQLSchema
    leaves: Mapping[str, Leaf]
    list_sizes: ListSizes
    resolvers: MiddlewareManager
    hide_suggestions: bool
    reject_nulls: bool
    max_items: int
    statistics: Statistics


Grow = Callable[[int], None]
"""Called with the bytes that a cached document has grown by."""


class Document:
    """A valid document.

    Args:
        runtime: of the document's schema.
        node: the parsed document.
        grow: see `Grow`.
    """

    def __init__(self, runtime: Runtime, node: DocumentNode, grow: Grow) -> None:
        self._runtime = runtime
        self._node = node
        self._grow = grow
        self._operations: dict[str | None, Operation] = {}

    def operation(self, name: str | None = None) -> "Operation":
        """The operation of that name, or the only one.

        Raises:
            RequestRejected: at `Stage.OPERATION`: there is no such operation, the name is missing
                and needed, or the operation is a subscription.
        """
        operation = self._operation(name)
        if operation.kind is OperationType.SUBSCRIPTION:
            raise _no_operation("Subscriptions are not supported here.")
        return operation

    def subscription(self, name: str | None = None) -> "Operation":
        """The same of a subscription, whose `Call.execute` takes each event.

        Raises:
            RequestRejected: at `Stage.OPERATION`: there is no such operation, or it is no
                subscription.
        """
        operation = self._operation(name)
        if operation.kind is not OperationType.SUBSCRIPTION:
            raise _no_operation("The operation is no subscription.")
        return operation

    def _operation(self, name: str | None) -> "Operation":
        operation = self._operations.get(name)
        if operation is None:
            operation = Operation(self._runtime, self._node, self._find(name), self._grow)
            self._operations[name] = operation
            self._grow(weights.OPERATION)
        return operation

    def find_kind(self, name: str | None) -> OperationType | None:
        """The kind of the operation of that name, or of the only one; None if there is none."""
        nodes = self._named(name)
        return nodes[0].operation if len(nodes) == 1 else None

    def _named(self, name: str | None) -> list[OperationDefinitionNode]:
        nodes = [
            node for node in self._node.definitions if isinstance(node, OperationDefinitionNode)
        ]
        if name is None:
            return nodes
        return [node for node in nodes if node.name and node.name.value == name]

    def _find(self, name: str | None) -> OperationDefinitionNode:
        nodes = self._named(name)
        if not nodes and name is None:
            raise _no_operation("Must provide an operation.")
        if not nodes:
            raise _no_operation(f"Unknown operation named '{name}'.")
        if len(nodes) > 1:
            raise _no_operation(
                "Must provide operation name if query contains multiple operations."
            )
        return nodes[0]


def _no_operation(message: str) -> RequestRejected:
    return RequestRejected(Stage.OPERATION, [GraphQLError(message)])


def _label(node: OperationDefinitionNode) -> str:
    if node.name:
        return node.name.value[:MAX_LABEL]
    fields = [each.name.value for each in node.selection_set.selections if type(each) is FieldNode]
    return ",".join(dict.fromkeys(fields))[:MAX_LABEL]


class Operation:
    """One operation of a document.

    Attributes:
        label: its name, or the names of its root fields; what people know it by.
    """

    def __init__(
        self, runtime: Runtime, document: DocumentNode, node: OperationDefinitionNode, grow: Grow
    ) -> None:
        fragments = fragments_of(document)
        self.label = _label(node)
        self._runtime = runtime
        self._grow = grow
        self._variables = VariableReader(runtime.schema, node, runtime.hide_suggestions)
        self._usages = find_usages(runtime.schema, node, fragments)
        self._selections: dict[tuple[bool, ...], Selection] = {}
        self._executor = CompiledExecutor(
            runtime.schema,
            fragments,
            {name: FragmentDetails(fragment) for name, fragment in fragments.items()},
            None,
            None,
            node,
            VariableValues({}, {}),
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            middleware_manager=runtime.resolvers,
            is_awaitable=optimized_is_awaitable,
            hide_suggestions=runtime.hide_suggestions,
        )

    @property
    def kind(self) -> OperationType:
        """Query, mutation or subscription."""
        return self._executor.operation.operation

    def bind(self, variables: Mapping[str, Any] | None = None) -> "Call":
        """The operation with its variables; its cost is then known.

        Raises:
            RequestRejected: at `Stage.VARIABLES`, with graphql-core's messages; at `LIMITS`, when
                the lists of the response may have too many items.
        """
        inputs = variables or {}
        if self._runtime.reject_nulls:
            _require_no_null(self._usages.never_null, inputs)
        values = self._variables.read(inputs)
        selection = self._select(values)
        items = self._count_items(selection, values)
        return Call(self._executor, values, selection, items)

    def _select(self, values: VariableValues) -> Selection:
        conditions = tuple(
            [values.coerced.get(name, Undefined) for name in self._usages.conditions]
        )
        # Null and absent values end in an error, whose selection is not cached.
        if not all(type(value) is bool for value in conditions):
            return self._new_selection(values, compiles=False)
        selection = self._selections.get(conditions)
        if selection is None:
            is_cached = len(self._selections) < MAX_SELECTIONS
            self._runtime.statistics.fallbacks += not is_cached
            selection = self._new_selection(values, compiles=is_cached)
            if is_cached:
                self._selections[conditions] = selection
        return selection

    def _new_selection(self, values: VariableValues, *, compiles: bool) -> Selection:
        grow = self._grow if compiles else _ignore
        selection = Selection(self._runtime.leaves, compiles, grow, self._runtime.statistics)
        executor = self._executor.fork(selection, None)
        executor.variable_values = values
        executor.select(self._runtime.list_sizes)
        return selection

    def _count_items(self, selection: Selection, values: VariableValues) -> int:
        limit = self._runtime.max_items
        count = sum([size.items(values.coerced) for size in selection.list_sizes])
        if count > limit:
            more = f": it asks for {count}, repetitions included"
            raise over_limit("list items", limit, more)
        return count


def _ignore(weight: int) -> None:
    """A selection that is not cached has no weight."""


def _require_no_null(names: Sequence[str], inputs: Mapping[str, Any]) -> None:
    for name in names:
        if name in inputs and inputs[name] is None:
            message = f"Variable '${name}' must not be null where it is used."
            raise RequestRejected(Stage.VARIABLES, [GraphQLError(message)])


@dataclass(slots=True)
class Call:
    """An operation with the variables of one request.

    Attributes:
        items: the most items that the lists of the response have together.
    """

    _executor: CompiledExecutor
    _values: VariableValues
    _selection: Selection
    items: int

    def arguments(self) -> dict[str, Any]:
        """The arguments of a subscription's field.

        Raises:
            GraphQLError: one of them is invalid, or the field is skipped.
        """
        fields = self._selection.root
        if not fields:
            raise GraphQLError("The subscription's field is skipped.")
        [details] = fields.values()
        executor = self._executor
        root = executor.schema.get_root_type(executor.operation.operation)
        assert root is not None
        node = details[0].node
        return get_argument_values(root.fields[node.name.value], node, self._values)

    @property
    def fields(self) -> int:
        """The number of root fields after `@skip` and `@include`, introspection excluded."""
        return self._selection.cost

    @property
    def cost(self) -> int:
        """What the root fields cost after `@skip` and `@include`, introspection excluded.

        Each costs one unit, or as many as its `SlicingArgument` says.
        """
        values = self._values.coerced
        more = sum([size.units(values) - 1 for size in self._selection.list_sizes])
        return self._selection.cost + more

    async def execute(self, context: Any = None, event: Any = None) -> ExecutionResult:
        """Run the operation; resolvers read `context` from their info.

        Args:
            event: of a subscription: the value of its field.
        """
        if self._selection.error:
            return ExecutionResult(b"null", [self._selection.error])
        executor = self._executor.fork(self._selection, context)
        executor.variable_values = self._values
        data: Any = None
        try:
            data = executor.execute_root(event)
            if executor.is_awaitable(data):
                data = await data
        except GraphQLError as error:
            executor.collected_errors.add(error, None)
            data = None
        try:
            text = ENCODER.encode(data)
        except NOT_ENCODABLE:
            text = encode_any(data)
        return ExecutionResult(text, list(executor.collected_errors.errors))
