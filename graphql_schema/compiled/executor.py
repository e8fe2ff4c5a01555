"""Strawberry's own executor, except that regions of plain data are read by compiled functions.

Resolvers, arguments, errors and null propagation are graphql-core's. A compiled function
runs on a value that is already resolved; if it fails, stock completes that same value.
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
from graphql.execution.values import VariableValues
from graphql.pyutils import AwaitableOrValue, Path, gather_with_cancel
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from . import weights
from .leaves import Leaf
from .list_sizes import Page, Paging, find_page
from .selections import Hole, Region, compile_region

log = logging.getLogger(__name__)

INTROSPECTION = ("__schema", "__type", "__typename")
"""The root fields that cost nothing."""


class Selection:
    """What an operation selects for one set of values of its `@skip`s and `@include`s.

    Holds nothing of a request, so that all requests with these values share it. What it comes to
    hold it reports to `grow`, in bytes.
    """

    def __init__(
        self, leaves: Mapping[str, Leaf], compiles: bool, grow: Callable[[int], None]
    ) -> None:
        self.leaves = leaves
        self.compiles = compiles
        self.grow = grow
        self.root: GroupedFieldSet = {}
        self.error: GraphQLError | None = None
        self.cost = 0
        self.pages: list[Page] = []
        self.collected: dict[tuple[str, int], CollectedFields] = {}
        self.regions: dict[tuple[int, int], Region | None] = {}


class CompiledExecutor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation once; `fork` makes the executor of each request."""

    selection: Selection

    def fork(
        self, values: VariableValues, selection: Selection, context: Any
    ) -> "CompiledExecutor":
        """An executor for one request, made quicker than by the constructor.

        Shared with the others are the schema, the document and the set that keeps
        abandoned tasks alive until they are done. Nothing shared grows otherwise: what a request
        collects belongs to its selection.
        """
        executor = object.__new__(CompiledExecutor)
        executor.__dict__.update(self.__dict__)
        executor.variable_values = values
        executor.selection = selection
        executor.context_value = context
        executor.collected_errors = CollectedErrors()
        return executor

    def select(self, paging: Mapping[str, Paging]) -> None:
        """Collect the root fields into `selection`; an error becomes the answer."""
        root_type = self.schema.get_root_type(self.operation.operation)
        assert root_type is not None, "validation refuses operations without a root type"
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
            if paged := paging.get(f"{root_type.name}.{name}"):
                field = root_type.fields[name]
                copies = self._count_copies(field.type, details)
                self.selection.pages.append(find_page(field, details[0].node, paged, copies))

    def _count_copies(self, type_: GraphQLOutputType, fields: FieldDetailsList) -> int:
        """How often the most repeated leaf below a field is selected, at least once."""
        try:
            leaves = Counter(self._leaves(type_, fields))
        except GraphQLError:
            # It fails again when the field is completed, but resolved the field is.
            return 1
        return max(leaves.values(), default=1)

    def _leaves(
        self, type_: GraphQLOutputType, fields: FieldDetailsList
    ) -> Iterator[tuple[str, str]]:
        """Every leaf below a field, by its own name and its parent's, under whatever alias."""
        named = get_named_type(type_)
        parents = self.schema.get_possible_types(named) if is_abstract_type(named) else [named]
        for parent in cast("list[GraphQLObjectType]", parents):
            for below in self.collect_subfields(parent, fields).grouped_field_set.values():
                name = below[0].node.name.value
                if below[0].node.selection_set is None:
                    yield parent.name, name
                else:
                    yield from self._leaves(parent.fields[name].type, below)

    async def answer(self) -> tuple[dict[str, Any] | None, list[GraphQLError]]:
        """Run the operation: its data, with structs in it, and its errors."""
        if self.selection.error:
            return None, [self.selection.error]
        data: Any
        try:
            result = self._execute_root()
            data = await result if self.is_awaitable(result) else result
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            data = None
        return data, list(self.collected_errors.errors)

    def _execute_root(self) -> AwaitableOrValue[dict[str, Any]]:
        kind = self.operation.operation
        root_type = cast("GraphQLObjectType", self.schema.get_root_type(kind))
        return self.execute_root_grouped_field_set(
            root_type, None, self.selection.root, kind is OperationType.MUTATION, None
        )

    def collect_subfields(
        self, return_type: GraphQLObjectType, field_details_list: FieldDetailsList
    ) -> CollectedFields:
        """As stock, but remembered by the selection, not by this executor and all its forks."""
        # The lists live as long as the selection, in what was collected for their parent.
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
        """A list: compiled if it can be, else item by item."""
        read = self._read(return_type, field_details_list, path, result)
        if read is not None:
            return cast("AwaitableOrValue[list[Any]]", read)
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
        """An object: compiled if it can be, else field by field."""
        read = self._read(return_type, field_details_list, path, result)
        if read is not None:
            return cast("AwaitableOrValue[dict[str, Any]]", read)
        return super().collect_and_execute_subfields(
            return_type, field_details_list, path, result, position_context
        )

    def _read(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, path: Path, value: Any
    ) -> AwaitableOrValue[Any] | None:
        region = self._region(type_, fields)
        if region is None:
            return None
        holes: list[Hole] = []
        try:
            completed = region(value, holes.append)
        except Exception:
            # Whatever it is, stock meets it again and answers for it; no resolver has run.
            return None
        return self._fill(completed, holes, path) if holes else completed

    def _region(self, type_: GraphQLOutputType, fields: FieldDetailsList) -> Region | None:
        key = (id(type_), id(fields))
        regions = self.selection.regions
        if key not in regions:
            regions[key] = self._compile(type_, fields) if self.selection.compiles else None
        return regions[key]

    def _compile(self, type_: GraphQLOutputType, fields: FieldDetailsList) -> Region | None:
        if getattr(type_, "name", "").startswith("__"):
            return None
        try:
            return compile_region(
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
            log.exception("A selection could not be compiled; the stock executor answers it")
            return None

    def _fill(self, completed: Any, holes: list[Hole], base: Path) -> AwaitableOrValue[Any]:
        filling = Filling(self, base)
        try:
            for hole in holes:
                filling.start(hole)
        except Exception:
            if filling.pending:
                self.settle_in_background(filling.pending)
            raise
        return filling.finish(completed) if filling.pending else completed


def _bytes(grouped: GroupedFieldSet) -> int:
    return weights.COLLECTION + weights.FIELD * sum(len(details) for details in grouped.values())


class Filling:
    """The holes of one region being filled: what stock does between a field and its parent."""

    def __init__(self, executor: CompiledExecutor, base: Path) -> None:
        self.pending: list[Awaitable[None]] = []
        self._executor = executor
        self._base = base
        self._nulled: set[Path] = set()

    def start(self, hole: Hole) -> None:
        """Resolve and complete one hole, unless an object around it has become null.

        Raises:
            GraphQLError: the field may not be null, nor anything around it in the region.
        """
        site = hole.site
        path = site.path(self._base, hole.indices)
        if self._nulled and any(above in self._nulled for above in _upwards(path)):
            return
        try:
            result = self._executor.execute_field(
                site.parent_type, hole.source, site.fields, path, None
            )
        except GraphQLError as error:
            self._propagate(hole, path, error)
            return
        if self._executor.is_awaitable(result):
            self.pending.append(self._wait(hole, path, result))
        else:
            setattr(hole.struct, site.attribute, result)

    async def finish(self, completed: Any) -> Any:
        """Wait for what is pending, all of it at once."""
        if len(self.pending) == 1:
            await self.pending[0]
        else:
            await gather_with_cancel(*self.pending)
        return completed

    async def _wait(self, hole: Hole, path: Path, result: Awaitable[Any]) -> None:
        try:
            value = await result
        except GraphQLError as error:
            self._propagate(hole, path, error)
        else:
            setattr(hole.struct, hole.site.attribute, value)

    def _propagate(self, hole: Hole, path: Path, error: GraphQLError) -> None:
        if hole.container is None:
            raise error
        boundary = path
        for _ in range(hole.site.boundary):
            boundary = cast("Path", boundary.prev)
        self._nulled.add(boundary)
        self._executor.collected_errors.add(error, boundary)
        if isinstance(hole.key, int):
            hole.container[hole.key] = None
        else:
            setattr(hole.container, hole.key, None)


def _upwards(path: Path) -> Iterator[Path]:
    above: Path | None = path
    while above is not None:
        yield above
        above = above.prev
