"""Limits on the size of a document, checked in time linear in its size.

The checks run before validation, some of whose rules take quadratic time or more.
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

from .rejections import RequestRejected, Stage


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest allowed sizes of a document. Fragments count at each spread."""

    length: int = 20_000
    """Characters of the document."""
    tokens: int = 1_000
    """Lexical tokens, comments included."""
    definitions: int = 20
    """Operations and fragments."""
    depth: int = 10
    """Levels of nested fields; `__schema` and `__type` count as one, with all their fields."""
    nesting: int = 50
    """Levels of selection sets, including those of inline fragments and spread fragments."""
    aliases: int = 50
    directives: int = 50
    fields: int = 1_000
    """Limits fragments that spread others repeatedly; without fragments `tokens` is stricter."""
    repeats: int = 2_000
    """Pairs of fields with the same response path: the work to check that they can be merged."""
    introspection: int = 100_000
    """Estimated fields of the response; the standard introspection query needs about a third."""
    items: int = 2_500
    """Items in the sliced lists of all root fields together, copies included; see `list_sizes`.
    Enough for 50 lists of 50 items, or for one list of 1000 items that is selected twice."""


class CyclicFragments(Exception):
    """Fragments spread each other in a cycle. The validation rule has the message."""


def check(document: DocumentNode, limits: Limits) -> None:
    """Reject a document over the limits.

    `length` and `tokens` are checked elsewhere, before the document is parsed.

    Raises:
        RequestRejected: at `Stage.LIMITS`.
        CyclicFragments: the size is infinite.
    """
    if len(document.definitions) > limits.definitions:
        raise over_limit("definitions", limits.definitions)
    size = _measure(document, limits)
    for name in ("depth", "nesting", "aliases", "directives", "fields", "introspection"):
        if getattr(size, name) > (limit := getattr(limits, name)):
            raise over_limit(name, limit)
    # Last, because the walk visits fragments at each spread: the checks above limit its length.
    if count_repeats(document) > limits.repeats:
        raise over_limit("repeats", limits.repeats)


def over_limit(name: str, limit: int, more: str = "") -> RequestRejected:
    """The rejection that names a limit; the error's `extensions` have its name and number.

    Args:
        more: the end of the sentence.
    """
    error = GraphQLError(
        f"Document exceeds the limit on {name} ({limit}){more}.",
        extensions={"limit": name, "maximum": limit},
    )
    return RequestRejected(Stage.LIMITS, [error])


def _measure(document: DocumentNode, limits: Limits) -> "Size":
    try:
        return measure(document)
    except RecursionError:
        raise over_limit("depth", limits.depth) from None


class Size(NamedTuple):
    """The sizes of a part of a document. `weight` is the estimated fields of its response."""

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
"""Estimated items of an introspection list."""


def measure(document: DocumentNode) -> Size:
    """The largest value of each measure over all definitions, used or not.

    Raises:
        CyclicFragments: the size is infinite.
    """
    scale = Scale(fragments_of(document))
    sizes = [
        scale.definition(node)
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode | OperationDefinitionNode)
    ]
    return Size(*map(max, zip(NOTHING, *sizes, strict=True)))


class Scale:
    """Measures the parts of a document, each fragment once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._sizes: dict[str, Size] = {}
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
        if name not in self._sizes:
            self._open.add(name)
            node = self._fragments.get(name)
            self._sizes[name] = self._selection_set(node.selection_set if node else None)
            self._open.remove(name)
        return self._sizes[name]


def count_repeats(document: DocumentNode) -> int:
    """Pairs of fields with the same response path, in all definitions."""
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
    visited: set[str] = set()
    for selection_set in selection_sets:
        for field in _fields(selection_set, fragments, visited):
            groups.setdefault((field.alias or field.name).value, []).append(field)
    pairs = 0
    for group in groups.values():
        below = [field.selection_set for field in group if field.selection_set]
        pairs += len(group) * (len(group) - 1) // 2 + (_repeats(below, fragments) if below else 0)
    return pairs


def _fields(
    selection_set: SelectionSetNode,
    fragments: dict[str, FragmentDefinitionNode],
    visited: set[str],
) -> Iterator[FieldNode]:
    for node in selection_set.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments, visited)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in visited:
            visited.add(node.name.value)
            if fragment := fragments.get(node.name.value):
                yield from _fields(fragment.selection_set, fragments, visited)
