"""Strawberry's executor, except that compiled functions read selections of plain data.

Resolvers, arguments, errors and null propagation are graphql-core's. A compiled function
reads a value that is already resolved; if it fails, the stock executor completes the same value.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

from graphql import (
    GraphQLError,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    OperationType,
    get_named_type,
    is_abstract_type,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import AwaitableOrValue, Path, gather_with_cancel
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from . import weights
from .leaves import Leaf
from .list_sizes import ListSize, ListSizes, find_list_size
from .selections import CompiledSelection, DeferredField, compile_selection
from .statistics import Statistics

log = logging.getLogger(__name__)

INTROSPECTION = ("__schema", "__type", "__typename")
"""The root fields that cost nothing."""


class Selection:
    """What an operation selects, for one combination of `@skip` and `@include` values.

    It holds no data of a request: all requests with these values share it. It calls `grow` with
    the bytes that it grows by.
    """

    def __init__(
        self,
        leaves: Mapping[str, Leaf],
        compiles: bool,
        grow: Callable[[int], None],
        statistics: Statistics,
    ) -> None:
        self.statistics = statistics
        self.leaves = leaves
        self.compiles = compiles
        self.grow = grow
        self.root: GroupedFieldSet = {}
        self.error: GraphQLError | None = None
        self.cost = 0
        self.list_sizes: list[ListSize] = []
        self.collected: dict[tuple[str, int], CollectedFields] = {}
        self.compiled: dict[tuple[int, int], CompiledSelection | None] = {}


class CompiledExecutor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation once; `fork` makes the executor of each request."""

    selection: Selection

    def fork(self, selection: Selection, context: Any) -> "CompiledExecutor":
        """An executor for one request, created faster than by the constructor.

        Its `variable_values` are still to be set. All executors share the schema, the document and
        the set of abandoned tasks that still run. The fields that a request collects belong to its
        selection.
        """
        executor = object.__new__(CompiledExecutor)
        executor.__dict__.update(self.__dict__)
        executor.selection = selection
        executor.context_value = context
        executor.collected_errors = CollectedErrors()
        return executor

    def select(self, list_sizes: ListSizes) -> None:
        """Collect the root fields into `selection`; an error is stored as the result."""
        root_type = self.schema.get_root_type(self.operation.operation)
        assert root_type is not None, "validation rejects operations without a root type"
        try:
            self.selection.root = collect_fields(
                self.schema,
                self.fragments,
                self.variable_values,
                root_type,
                self.operation,
                self.hide_suggestions,
            ).grouped_field_set
        except GraphQLError as error:
            self.selection.error = error
        self.selection.grow(_bytes(self.selection.root))
        for details in self.selection.root.values():
            name = details[0].node.name.value
            self.selection.cost += name not in INTROSPECTION
            if slicing := list_sizes.slicing.get(f"{root_type.name}.{name}"):
                field = root_type.fields[name]
                copies = self._count_copies(field.type, details, list_sizes.constants)
                size = find_list_size(field, details[0].node, slicing, copies)
                self.selection.list_sizes.append(size)

    def _count_copies(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, constants: Mapping[str, int]
    ) -> int:
        """How often the most repeated leaf below a field is in the response, at least once."""
        leaves: Counter[str] = Counter()
        try:
            for leaf, copies in self._leaves(type_, fields, constants, 1):
                leaves[leaf] += copies
        except GraphQLError:
            # The same error is raised again, and reported, when the field is completed.
            return 1
        return max(leaves.values(), default=1)

    def _leaves(
        self,
        type_: GraphQLOutputType,
        fields: FieldDetailsList,
        constants: Mapping[str, int],
        copies: int,
    ) -> Iterator[tuple[str, int]]:
        """The coordinate of every leaf below a field, and how often one item repeats it."""
        named = get_named_type(type_)
        parents = self.schema.get_possible_types(named) if is_abstract_type(named) else [named]
        for parent in cast("list[GraphQLObjectType]", parents):
            for below in self.collect_subfields(parent, fields).grouped_field_set.values():
                name = below[0].node.name.value
                coordinate = f"{parent.name}.{name}"
                repeated = copies * constants.get(coordinate, 1)
                if below[0].node.selection_set is None:
                    yield coordinate, repeated
                else:
                    below_type = parent.fields[name].type
                    yield from self._leaves(below_type, below, constants, repeated)

    def execute_root(self, event: Any = None) -> AwaitableOrValue[dict[str, Any]]:
        """The operation's data, with structs in it.

        Args:
            event: of a subscription: the value of its field.

        Raises:
            GraphQLError: (also from the awaitable) an error has nulled the whole of it.
        """
        kind = self.operation.operation
        root_type = cast("GraphQLObjectType", self.schema.get_root_type(kind))
        return self.execute_root_grouped_field_set(
            root_type, event, self.selection.root, kind is OperationType.MUTATION, None
        )

    def collect_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList
    ) -> CollectedFields:
        """As the stock executor does, but cached in the selection."""
        # An id is valid: the selection keeps the list in the fields collected for its parent.
        key = (return_type.name, id(field_details_list))
        collected = self.selection.collected.get(key)
        if collected is None:
            collected = collect_subfields(
                self.schema,
                self.fragments,
                self.variable_values,
                self.operation,
                return_type,
                field_details_list,
                self.hide_suggestions,
            )
            self.selection.collected[key] = collected
            self.selection.grow(_bytes(collected.grouped_field_set))
        return collected

    def complete_list_value(
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> AwaitableOrValue[list[Any]]:
        """A list: by a compiled function if there is one, else item by item."""
        if read := self._compiled(return_type, field_details_list):
            deferred: list[DeferredField] = []
            try:
                completed = read(result, deferred.append)
            except Exception:
                # No resolver has run. The stock executor meets the same error, and reports it.
                self.selection.statistics.fallbacks += 1
            else:
                return self._resolve_deferred(completed, deferred, path) if deferred else completed
        return super().complete_list_value(
            return_type, field_details_list, info, path, result, position_context
        )

    def collect_and_execute_subfields(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        path: Path,
        result: Any,
        position_context: Any,
    ) -> AwaitableOrValue[dict[str, Any]]:
        """An object: by a compiled function if there is one, else field by field."""
        if read := self._compiled(return_type, field_details_list):
            deferred: list[DeferredField] = []
            try:
                completed = read(result, deferred.append)
            except Exception:
                self.selection.statistics.fallbacks += 1
            else:
                return self._resolve_deferred(completed, deferred, path) if deferred else completed
        return super().collect_and_execute_subfields(
            return_type, field_details_list, path, result, position_context
        )

    def _compiled(
        self, type_: GraphQLOutputType, fields: FieldDetailsList
    ) -> CompiledSelection | None:
        key = (id(type_), id(fields))
        compiled = self.selection.compiled
        if key not in compiled:
            compiled[key] = self._compile(type_, fields) if self.selection.compiles else None
        return compiled[key]

    def _compile(
        self, type_: GraphQLOutputType, fields: FieldDetailsList
    ) -> CompiledSelection | None:
        if getattr(type_, "name", "").startswith("__"):
            return None
        try:
            return compile_selection(
                self.schema,
                type_,
                fields,
                lambda parent, details: self.collect_subfields(parent, details).grouped_field_set,
                self.selection.leaves,
                self.selection.grow,
            )
        except GraphQLError:
            return None
        except Exception:
            self.selection.statistics.fallbacks += 1
            log.exception("A selection could not be compiled; the stock executor completes it")
            return None

    def _resolve_deferred(
        self, completed: Any, deferred: list[DeferredField], base: Path
    ) -> AwaitableOrValue[Any]:
        fields = DeferredFields(self, base)
        try:
            for field in deferred:
                self.selection.statistics.fallbacks += field.site.is_fallback
                fields.start(field)
        except Exception:
            if fields.pending:
                self.settle_in_background(fields.pending)
            raise
        return fields.finish(completed) if fields.pending else completed


def _bytes(grouped: GroupedFieldSet) -> int:
    return weights.COLLECTION + weights.FIELD * sum(len(details) for details in grouped.values())


class DeferredFields:
    """Resolves the deferred fields of one compiled value, and propagates their nulls."""

    def __init__(self, executor: CompiledExecutor, base: Path) -> None:
        self.pending: list[Awaitable[None]] = []
        self._executor = executor
        self._base = base
        self._nulled: set[Path] = set()

    def start(self, field: DeferredField) -> None:
        """Resolve and complete one field, unless an object around it has become null.

        Raises:
            GraphQLError: neither the field nor an ancestor in the compiled value is nullable.
        """
        site = field.site
        path = site.path(self._base, field.indices)
        if self._nulled and any(above in self._nulled for above in _upwards(path)):
            return
        try:
            result = self._executor.execute_field(
                site.parent_type, field.source, site.fields, path, None
            )
        except GraphQLError as error:
            self._propagate(field, path, error)
            return
        if self._executor.is_awaitable(result):
            self.pending.append(self._wait(field, path, result))
        else:
            setattr(field.struct, site.attribute, result)

    async def finish(self, completed: Any) -> Any:
        """Wait for all pending fields, concurrently. Returns `completed`."""
        if len(self.pending) == 1:
            await self.pending[0]
        else:
            await gather_with_cancel(*self.pending)
        return completed

    async def _wait(self, field: DeferredField, path: Path, result: Awaitable[Any]) -> None:
        try:
            value = await result
        except GraphQLError as error:
            self._propagate(field, path, error)
        else:
            setattr(field.struct, field.site.attribute, value)

    def _propagate(self, field: DeferredField, path: Path, error: GraphQLError) -> None:
        if field.container is None:
            raise error
        boundary = path
        for _ in range(field.site.boundary):
            boundary = cast("Path", boundary.prev)
        self._nulled.add(boundary)
        self._executor.collected_errors.add(error, boundary)
        if isinstance(field.key, int):
            field.container[field.key] = None
        else:
            setattr(field.container, field.key, None)


def _upwards(path: Path) -> Iterator[Path]:
    above: Path | None = path
    while above is not None:
        yield above
        above = above.prev
