"""Compiles a selection on plain data into one function from a resolved value to structs.

A region is the part of an answer that needs nothing but attributes: objects, lists of them
and leaves. Where a field needs more (a resolver, an interface, a union) the region has a
hole, which the executor fills in the stock way. Knows types and selections, runs nothing.
"""

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from graphql import (
    GraphQLField,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.pyutils import Path
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from . import weights
from .leaves import Bail, Leaf, write_leaf
from .structs import PLAIN, struct_type, vet

Collect: TypeAlias = Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet]
"""The fields selected on an object type, by response key."""

MAX_LISTS = 12
"""CPython nests at most 20 loops in a function."""
MAX_OBJECTS = 24
"""CPython indents at most 100 levels."""


class Site(NamedTuple):
    """Where in a region holes are, and what is selected there."""

    parent_type: GraphQLObjectType
    fields: FieldDetailsList
    attribute: str
    """The struct's attribute to fill."""
    steps: tuple[tuple[str, str] | None, ...]
    """From the region to the hole: key and type of a field, or None for a list index."""
    boundary: int
    """How many steps above the hole a null ends up that may not stay in it."""

    def path(self, base: Path, indices: Sequence[int]) -> Path:
        """The response path of one hole; `indices` are those of the lists above it."""
        index = iter(indices)
        for step in self.steps:
            key, typename = step or (next(index), None)
            base = Path(base, key, typename)
        return base


class Hole(NamedTuple):
    """One field of one object that the stock executor has to resolve."""

    site: Site
    struct: Any
    source: Any
    container: Any
    """The struct or list that becomes null if this field may not; None: not in this region."""
    key: str | int
    """The attribute or index in `container`."""
    indices: tuple[int, ...]


Region: TypeAlias = Callable[[Any, Callable[[Hole], None]], Any]
"""Reads a value and reports its holes. Raises anything at all when the value surprises it."""


def compile_region(
    schema: GraphQLSchema,
    type_: GraphQLOutputType,
    fields: FieldDetailsList,
    collect: Collect,
    leaves: Mapping[str, Leaf],
    grow: Callable[[int], None],
) -> Region | None:
    """The function for a list type or an object type, or None if there is nothing to gain.

    The type is not wrapped in non-null, and the value is neither null nor, for an object,
    of a type that has not been checked. `grow` is told how many bytes the function takes.

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
    region = writer.write(plan)
    grow(writer.weight)
    return region


@dataclass(slots=True)
class LeafPlan:
    type: GraphQLLeafType
    nullable: bool = True
    has_holes: bool = False


@dataclass(slots=True)
class ListPlan:
    item: "Plan"
    has_holes: bool
    nullable: bool = True


@dataclass(slots=True)
class ObjectPlan:
    type: GraphQLObjectType
    is_type_of: Callable[[Any, Any], Any] | None
    fields: "list[FieldPlan]"
    has_holes: bool
    nullable: bool = True


@dataclass(slots=True)
class FieldPlan:
    """`plan` is None for `__typename` and for a hole, which has `details`."""

    key: str
    attribute: str
    plan: "Plan | None" = None
    details: FieldDetailsList | None = None


Plan: TypeAlias = LeafPlan | ListPlan | ObjectPlan


def _is_worthwhile(plan: Plan) -> bool:
    if isinstance(plan, ListPlan):
        return _is_worthwhile(plan.item)
    return isinstance(plan, LeafPlan) or any(field.plan is not None for field in plan.fields)


class Planner:
    """Decides what of a selection is plain data."""

    def __init__(self, schema: GraphQLSchema, collect: Collect) -> None:
        self._schema = schema
        self._collect = collect

    def output(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, lists: int, objects: int
    ) -> Plan | None:
        """The plan for a type, or None where the stock executor is needed."""
        if not isinstance(type_, GraphQLNonNull):
            return self.nullable(type_, fields, lists, objects)
        plan = self.nullable(type_.of_type, fields, lists, objects)
        if plan is not None:
            plan.nullable = False
        return plan

    def nullable(
        self, type_: GraphQLOutputType, fields: FieldDetailsList, lists: int, objects: int
    ) -> Plan | None:
        """The same for a type that is not wrapped in non-null."""
        if is_leaf_type(type_):
            return LeafPlan(type_)
        if isinstance(type_, GraphQLList) and lists < MAX_LISTS:
            item = self.output(type_.of_type, fields, lists + 1, objects)
            return ListPlan(item, item.has_holes) if item else None
        if isinstance(type_, GraphQLObjectType) and objects < MAX_OBJECTS:
            # An `is_type_of` of the schema's own may need the resolve info.
            if type_.is_type_of and not _is_strawberrys_own_check(type_):
                return None
            return self.object(type_, fields, lists, objects)
        return None

    def object(
        self, type_: GraphQLObjectType, fields: FieldDetailsList, lists: int, objects: int
    ) -> ObjectPlan:
        """The plan for the fields selected on an object."""
        plans = [
            self._field(index, type_, key, details, lists, objects)
            for index, (key, details) in enumerate(self._collect(type_, fields).items())
        ]
        has_holes = any(
            field.details is not None or (field.plan is not None and field.plan.has_holes)
            for field in plans
        )
        is_type_of = type_.is_type_of if _is_strawberrys_own_check(type_) else None
        return ObjectPlan(type_, is_type_of, plans, has_holes)

    def _field(
        self,
        index: int,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        lists: int,
        objects: int,
    ) -> FieldPlan:
        name = details[0].node.name.value
        if name == "__typename":
            return FieldPlan(key, "")
        field = self._schema.get_field(parent, name)
        attribute = plain_attribute(field)
        if field is None or attribute is None:
            return FieldPlan(key, "", details=details)
        plan = self.output(field.type, details, lists, objects + 1)
        return FieldPlan(key, attribute, plan, details=None if plan else details)


def plain_attribute(field: GraphQLField | None) -> str | None:
    """The attribute a field without a resolver reads, or None if there is more to it."""
    definition = field.extensions.get("strawberry-definition") if field else None
    if field is None or not isinstance(definition, StrawberryField):
        return None
    is_plain = (
        definition.is_basic_field
        and not field.args
        and definition.default_resolver is getattr
        and type(definition).get_result is StrawberryField.get_result
        # What strawberry builds for a field that neither extensions nor handlers touch.
        and getattr(field.resolve, "__name__", "") == "_get_basic_result"
    )
    name = definition.python_name
    return name if is_plain and name.isidentifier() and not keyword.iskeyword(name) else None


def _is_strawberrys_own_check(type_: GraphQLObjectType) -> bool:
    definition = type_.extensions.get("strawberry-definition")
    return isinstance(definition, StrawberryObjectDefinition) and not definition.is_type_of


class Place(NamedTuple):
    """Where the writer is in the region."""

    steps: tuple[tuple[str, str] | None, ...] = ()
    indices: tuple[str, ...] = ()
    container: str = "None"
    key: str = "None"
    boundary: int = 0
    """How many steps down from the region the nearest place is that may be null."""


class Writer:
    """Writes a plan as Python."""

    def __init__(self, leaves: Mapping[str, Leaf]) -> None:
        self._leaves = leaves
        self._lines: list[str] = []
        self._indent = 1
        self._count = 0
        self._structs = 0
        self._names: dict[str, Any] = {"Bail": Bail, "Hole": Hole, "plain": PLAIN, "vet": vet}
        for leaf in leaves.values():
            self._names.update(leaf.names)

    def write(self, plan: Plan) -> Region:
        """The compiled function."""
        result = self._write(plan, "value", Place())
        source = "\n".join(["def read(value, report):", *self._lines, f"    return {result}"])
        exec(compile(source, "<region>", "exec"), self._names)  # noqa: S102  # our own lines
        # Left in there, the function would be part of a cycle through its globals.
        region: Region = self._names.pop("read")
        return region

    @property
    def weight(self) -> int:
        """The bytes that the function takes, with the structs that it fills."""
        return weights.REGION + weights.LINE * len(self._lines) + weights.STRUCT * self._structs

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
        self._line(f"if type({value}) is not list and type({value}) is not tuple: raise Bail")
        self._line(f"{result} = []")
        if plan.has_holes:
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
        self._line(f"if type({value}) not in plain: vet({value})")
        if plan.is_type_of:
            self._line(f"if not {self._constant(plan.is_type_of)}({value}, None): raise Bail")
        struct = self._constant(struct_type(tuple(field.key for field in plan.fields)))
        self._structs += 1
        if plan.has_holes:
            return self._write_holed(plan, value, place, struct)
        results = [self._write_field(plan, field, value, place) for field in plan.fields]
        return f"{struct}({', '.join(results)})"

    def _write_holed(self, plan: ObjectPlan, value: str, place: Place, struct: str) -> str:
        """The struct is made first, so that holes are reported in the document's order."""
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
                site = self._site(plan, field.details, attribute, place, step)
                self._line(
                    f"report(Hole({site}, {result}, {value}, {place.container}, {place.key},"
                    f" ({''.join(f'{index}, ' for index in place.indices)})))"
                )
        return result

    def _site(
        self,
        plan: ObjectPlan,
        details: FieldDetailsList,
        attribute: str,
        place: Place,
        step: tuple[str, str],
    ) -> str:
        steps = (*place.steps, step)
        return self._constant(
            Site(plan.type, details, attribute, steps, len(steps) - place.boundary)
        )

    def _write_field(self, plan: ObjectPlan, field: FieldPlan, value: str, place: Place) -> str:
        if field.plan is None:
            return self._constant(plan.type.name)
        result = self._new("v")
        self._line(f"{result} = {value}.{field.attribute}")
        return self._write(field.plan, result, place)

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
    """One step down; a nullable place becomes the boundary for the nulls below it."""
    steps = (*place.steps, step)
    if plan is not None and plan.nullable:
        return Place(steps, place.indices, container, key, len(steps))
    return place._replace(steps=steps)
