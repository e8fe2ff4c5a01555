"""Compiles a selection of plain data into one function from a resolved value to structs.

Where a field needs the stock executor, the function reports a deferred field, which the executor
resolves. This module knows types and selections and runs no resolver.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from graphql import GraphQLObjectType, GraphQLOutputType, GraphQLSchema
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path

from . import weights
from .leaves import Leaf, UnexpectedValue, write_leaf
from .plans import Collect, FieldPlan, LeafPlan, ListPlan, ObjectPlan, Plan, Planner
from .structs import PLAIN, require_plain, struct_type


class Site(NamedTuple):
    """Where a compiled selection has a deferred field, and what is selected there."""

    parent_type: GraphQLObjectType
    fields: FieldDetailsList
    attribute: str
    """The struct's attribute that the value is stored in."""
    steps: tuple[tuple[str, str] | None, ...]
    """From the compiled value to the field: key and type of a field, or None for a list index."""
    boundary: int
    """Steps up to the nearest nullable ancestor."""
    is_fallback: bool
    """Whether the field has no resolver, and only its type is one that is not compiled."""

    def path(self, base: Path, indices: Sequence[int]) -> Path:
        """The response path of one deferred field; `indices` are those of the lists above it."""
        index = iter(indices)
        for step in self.steps:
            key, typename = step or (next(index), None)
            base = Path(base, key, typename)
        return base


class DeferredField(NamedTuple):
    """A field of one object that the stock executor has to resolve."""

    site: Site
    struct: Any
    source: Any
    container: Any
    """The struct or list that holds the nearest nullable ancestor; None if the compiled value has
    none."""
    key: str | int
    """The attribute or index of that ancestor in `container`."""
    indices: tuple[int, ...]


CompiledSelection: TypeAlias = Callable[[Any, Callable[[DeferredField], None]], Any]
"""Reads a value and reports its deferred fields. May raise any exception for a value that it does
not expect."""


def compile_selection(
    schema: GraphQLSchema,
    type_: GraphQLOutputType,
    fields: FieldDetailsList,
    collect: Collect,
    leaves: Mapping[str, Leaf],
    grow: Callable[[int], None],
) -> CompiledSelection | None:
    """Compile what is selected on a list type or an object type.

    Args:
        type_: not wrapped in non-null.
        grow: called with the bytes that the function takes.

    Returns:
        The function, for values that are not null; the `is_type_of` of an object is checked
        before. None if no field can be compiled.

    Raises:
        GraphQLError: the selection cannot be collected with these variables.
    """
    planner = Planner(schema, collect)
    plan = (
        planner.object(type_, fields, 0, 0)
        if isinstance(type_, GraphQLObjectType)
        else planner.nullable(type_, fields, 0, 0)
    )
    if plan is None or not _is_worthwhile(plan):
        return None
    plan.nullable = False
    writer = Writer(leaves)
    compiled = writer.write(plan)
    grow(writer.weight)
    return compiled


def _is_worthwhile(plan: Plan) -> bool:
    if isinstance(plan, ListPlan):
        return _is_worthwhile(plan.item)
    return isinstance(plan, LeafPlan) or any(field.plan is not None for field in plan.fields)


class Place(NamedTuple):
    """Where in the compiled value the writer is."""

    steps: tuple[tuple[str, str] | None, ...] = ()
    indices: tuple[str, ...] = ()
    container: str = "None"
    key: str = "None"
    boundary: int = 0
    """Steps from the compiled value down to the nearest nullable place."""


class Writer:
    """Writes a plan as Python."""

    def __init__(self, leaves: Mapping[str, Leaf]) -> None:
        self._leaves = leaves
        self._lines: list[str] = []
        self._indent = 1
        self._count = 0
        self._structs = 0
        self._names: dict[str, Any] = {
            "DeferredField": DeferredField,
            "PLAIN": PLAIN,
            "UnexpectedValue": UnexpectedValue,
            "require_plain": require_plain,
        }
        for leaf in leaves.values():
            self._names.update(leaf.names)

    def write(self, plan: Plan) -> CompiledSelection:
        """The compiled function."""
        result = self._write(plan, "value", Place())
        source = "\n".join(["def read(value, report):", *self._lines, f"    return {result}"])
        exec(compile(source, "<selection>", "exec"), self._names)  # noqa: S102  # our own lines
        # A function that is also one of its own globals would be a reference cycle.
        compiled: CompiledSelection = self._names.pop("read")
        return compiled

    @property
    def weight(self) -> int:
        """The bytes that the function takes, with its struct types."""
        return weights.FUNCTION + weights.LINE * len(self._lines) + weights.STRUCT * self._structs

    def _write(self, plan: Plan, value: str, place: Place) -> str:
        """Write what turns the variable `value` into the returned expression."""
        if isinstance(plan, LeafPlan):
            lines = write_leaf(plan.type, value, plan.nullable, self._leaves, self._constant)
            for line in lines:
                self._line(line)
            return value
        if plan.nullable:
            return self._write_nullable(plan, value, place)
        return self._write_composite(plan, value, place)

    def _write_nullable(self, plan: ListPlan | ObjectPlan, value: str, place: Place) -> str:
        result = self._new("n")
        self._line(f"if {value} is None: {result} = None")
        self._line("else:")
        self._indent += 1
        self._line(f"{result} = {self._write_composite(plan, value, place)}")
        self._indent -= 1
        return result

    def _write_composite(self, plan: ListPlan | ObjectPlan, value: str, place: Place) -> str:
        if isinstance(plan, ListPlan):
            return self._write_list(plan, value, place)
        return self._write_object(plan, value, place)

    def _write_list(self, plan: ListPlan, value: str, place: Place) -> str:
        result, item = self._new("l"), self._new("v")
        self._require(f"type({value}) is list or type({value}) is tuple")
        self._line(f"{result} = []")
        if plan.has_deferred:
            index = self._new("i")
            self._line(f"for {index}, {item} in enumerate({value}):")
            place = _into(place, None, plan.item, result, index)
            place = place._replace(indices=(*place.indices, index))
        else:
            self._line(f"for {item} in {value}:")
        self._indent += 1
        self._line(f"{result}.append({self._write(plan.item, item, place)})")
        self._indent -= 1
        return result

    def _write_object(self, plan: ObjectPlan, value: str, place: Place) -> str:
        self._line(f"if type({value}) not in PLAIN: require_plain({value})")
        if plan.is_type_of:
            self._require(f"{self._constant(plan.is_type_of)}({value}, None)")
        struct = self._constant(struct_type(tuple(field.key for field in plan.fields)))
        self._structs += 1
        if plan.has_deferred:
            return self._write_deferred(plan, value, place, struct)
        results = [self._write_field(plan, field, value, place) for field in plan.fields]
        return f"{struct}({', '.join(results)})"

    def _write_deferred(self, plan: ObjectPlan, value: str, place: Place, struct: str) -> str:
        """Create the struct first, so that deferred fields are reported in document order."""
        result = self._new("s")
        self._line(f"{result} = {struct}()")
        for number, field in enumerate(plan.fields):
            attribute = f"f{number}"
            step = (field.key, plan.type.name)
            if field.details is None:
                below = _into(place, step, field.plan, result, repr(attribute))
                written = self._write_field(plan, field, value, below)
                self._line(f"{result}.{attribute} = {written}")
            else:
                is_fallback = bool(field.attribute)
                site = self._site(plan, field.details, attribute, place, step, is_fallback)
                indices = "".join(f"{index}, " for index in place.indices)
                arguments = f"{site}, {result}, {value}, {place.container}, {place.key}"
                self._line(f"report(DeferredField({arguments}, ({indices})))")
        return result

    def _site(
        self,
        plan: ObjectPlan,
        details: FieldDetailsList,
        attribute: str,
        place: Place,
        step: tuple[str, str],
        is_fallback: bool,
    ) -> str:
        steps = (*place.steps, step)
        boundary = len(steps) - place.boundary
        return self._constant(Site(plan.type, details, attribute, steps, boundary, is_fallback))

    def _write_field(self, plan: ObjectPlan, field: FieldPlan, value: str, place: Place) -> str:
        if field.plan is None:
            return self._constant(plan.type.name)
        result = self._new("v")
        self._line(f"{result} = {value}.{field.attribute}")
        return self._write(field.plan, result, place)

    def _require(self, condition: str) -> None:
        self._line(f"if not ({condition}): raise UnexpectedValue")

    def _line(self, line: str) -> None:
        self._lines.append("    " * self._indent + line)

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"_{prefix}{self._count}"

    def _constant(self, value: Any) -> str:
        name = self._new("c")
        self._names[name] = value
        return name


def _into(
    place: Place, step: tuple[str, str] | None, plan: Plan | None, container: str, key: str
) -> Place:
    """One step down; a nullable place becomes the boundary of the nulls below it."""
    steps = (*place.steps, step)
    if plan is not None and plan.nullable:
        return Place(steps, place.indices, container, key, len(steps))
    return place._replace(steps=steps)
