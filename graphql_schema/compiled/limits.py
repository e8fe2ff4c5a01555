"""How large a document may be, measured in time linear in its size.

Everything here runs before stock validation, some of whose rules are quadratic or worse.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)

from .rejections import Refused, Stage


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a document may have of each. Fragments count wherever they are spread."""

    length: int = 20_000
    """Characters of the document."""
    tokens: int = 1_000
    """Lexical tokens, comments included."""
    definitions: int = 20
    """Operations and fragments."""
    depth: int = 10
    """Levels of nested fields; `__schema` and `__type` count as one whatever is below."""
    nesting: int = 50
    """Levels of selection sets, those of inline fragments and of spread fragments included."""
    aliases: int = 50
    directives: int = 50
    fields: int = 1_000
    """Without fragments `tokens` is stricter: this is what stops fragments that multiply."""
    repeats: int = 2_000
    """Pairs of fields with one response path: the work of checking that they can be merged."""
    introspection: int = 100_000
    """Estimated answer size in fields; the standard introspection query has about a third."""
    items: int = 2_500
    """Items that the pages of all root fields may have together, copies counted, once the
    variables are known: as many as `aliases` pages of 50 have, or a page of 1000 that is selected
    as `nodes` and as `edges`."""


class CyclicFragments(Exception):
    """Fragments spread each other in a circle. The validation rule has the message."""


def check(document: DocumentNode, limits: Limits) -> None:
    """Refuse a document over the limits.

    `length` and `tokens` are not looked at: they are checked before there is a document.

    Raises:
        Refused: at `Stage.LIMITS`.
        CyclicFragments: the document has no finite size.
    """
    if len(document.definitions) > limits.definitions:
        raise over_limit("definitions", limits.definitions)
    size = _measure(document, limits)
    for name in ("depth", "nesting", "aliases", "directives", "fields", "introspection"):
        if getattr(size, name) > (limit := getattr(limits, name)):
            raise over_limit(name, limit)
    # Only now: the walk is as long as the document with its fragments written out.
    if count_repeats(document) > limits.repeats:
        raise over_limit("repeats", limits.repeats)


def over_limit(name: str, limit: int, more: str = "") -> Refused:
    """The refusal that names a limit; the error's `extensions` hold its name and number.

    Args:
        more: what else is known, the end of the sentence.
    """
    error = GraphQLError(
        f"Document exceeds the limit on {name} ({limit}){more}.",
        extensions={"limit": name, "maximum": limit},
    )
    return Refused(Stage.LIMITS, [error])


def _measure(document: DocumentNode, limits: Limits) -> "Size":
    try:
        return measure(document)
    except RecursionError:
        raise over_limit("depth", limits.depth) from None


class Size(NamedTuple):
    """What is measured of a piece of a document; `weight` only matters to introspection."""

    depth: int = 0
    nesting: int = 0
    aliases: int = 0
    directives: int = 0
    fields: int = 0
    introspection: int = 0
    weight: int = 0


NOTHING = Size()
LEAF = Size(depth=1, fields=1, weight=1)
ALIASED_LEAF = LEAF._replace(aliases=1)
INTROSPECTION_LISTS = frozenset(
    [
        "args",
        "directives",
        "enumValues",
        "fields",
        "inputFields",
        "interfaces",
        "possibleTypes",
        "types",
    ]
)
ITEMS = 10
"""How many items an introspection list is taken to have."""


def measure(document: DocumentNode) -> Size:
    """The largest value of each measure over all definitions, used or not.

    Raises:
        CyclicFragments: when the document has no finite size.
    """
    scale = Scale(fragments_of(document))
    sizes = [
        scale.definition(node)
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode | OperationDefinitionNode)
    ]
    return Size(*map(max, zip(NOTHING, *sizes, strict=True)))


class Scale:
    """Measures the pieces of a document, every fragment once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, Size] = {}
        self._open: set[str] = set()

    def definition(self, node: FragmentDefinitionNode | OperationDefinitionNode) -> Size:
        """The size of an operation or fragment."""
        if isinstance(node, OperationDefinitionNode):
            size = self._selection_set(node.selection_set)
            return size._replace(directives=size.directives + len(node.directives or ()))
        size = self._fragment(node.name.value)
        # Only `__schema` and `__type` lead there.
        is_introspection = node.type_condition.name.value.startswith("__")
        return size._replace(depth=0) if is_introspection else size

    def _selection_set(self, node: SelectionSetNode | None) -> Size:
        if node is None:
            return NOTHING
        sizes = [self._selection(selection) for selection in node.selections]
        depths, nestings, *others = zip(NOTHING, *sizes, strict=True)
        return Size(max(depths), max(nestings) + 1, *map(sum, others))

    def _selection(self, node: SelectionNode) -> Size:
        if isinstance(node, FieldNode):
            size = self._field(node)
        elif isinstance(node, FragmentSpreadNode):
            size = self._fragment(node.name.value)
        else:
            assert isinstance(node, InlineFragmentNode)
            size = self._selection_set(node.selection_set)
        if node.directives:
            return size._replace(directives=size.directives + len(node.directives))
        return size

    def _field(self, node: FieldNode) -> Size:
        if node.selection_set is None:
            return ALIASED_LEAF if node.alias else LEAF
        below = self._selection_set(node.selection_set)
        name = node.name.value
        is_introspection = name in ("__schema", "__type")
        weight = 1 + below.weight * (ITEMS if name in INTROSPECTION_LISTS else 1)
        return Size(
            1 if is_introspection else below.depth + 1,
            below.nesting,
            below.aliases + (node.alias is not None),
            below.directives,
            below.fields + 1,
            weight if is_introspection else below.introspection,
            weight,
        )

    def _fragment(self, name: str) -> Size:
        if name in self._open:
            raise CyclicFragments(name)
        if name not in self._known:
            self._open.add(name)
            node = self._fragments.get(name)
            self._known[name] = self._selection_set(node.selection_set if node else None)
            self._open.remove(name)
        return self._known[name]


def count_repeats(document: DocumentNode) -> int:
    """Pairs of fields that answer under one response path, over all definitions."""
    fragments = fragments_of(document)
    definitions = (
        node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode | OperationDefinitionNode)
    )
    return sum(_repeats([node.selection_set], fragments) for node in definitions)


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """The document's fragments by name."""
    return {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }


def _repeats(
    selection_sets: Iterable[SelectionSetNode], fragments: dict[str, FragmentDefinitionNode]
) -> int:
    groups: dict[str, list[FieldNode]] = {}
    seen: set[str] = set()
    for selection_set in selection_sets:
        for field in _fields(selection_set, fragments, seen):
            groups.setdefault((field.alias or field.name).value, []).append(field)
    pairs = 0
    for group in groups.values():
        below = [field.selection_set for field in group if field.selection_set]
        pairs += len(group) * (len(group) - 1) // 2 + (_repeats(below, fragments) if below else 0)
    return pairs


def _fields(
    selection_set: SelectionSetNode,
    fragments: dict[str, FragmentDefinitionNode],
    seen: set[str],
) -> Iterator[FieldNode]:
    for node in selection_set.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            if fragment := fragments.get(node.name.value):
                yield from _fields(fragment.selection_set, fragments, seen)
