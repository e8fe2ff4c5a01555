"""The entry point: prepare a document once, then execute its operations many times."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import strawberry
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLSyntaxError,
    NoFragmentCyclesRule,
    OperationType,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from . import weights
from .cache import Cache
from .document import Document, Runtime
from .leaves import Leaf
from .lexer import parse
from .limits import CyclicFragments, Limits, check, over_limit
from .list_sizes import DeclaredSize, ListSizes, SlicingArgument
from .rejections import RequestRejected, Stage
from .resolvers import PreparedResolvers
from .scan import find_kind
from .statistics import Statistics
from .validation import rules_for, validate

CACHED_BYTES: Final = 32 * 2**20
"""Bytes of all documents that a process caches, compiled functions included."""


class CompiledSchema:
    """Prepares documents for a schema and caches the prepared ones.

    Args:
        schema: without schema extensions, operation directives and incremental delivery.
        limits: the limits of a document.
        rules: validation rules in addition to the specified ones. They do not visit names, nor the
            items of a list of constants.
        leaves: quick ways to write custom scalars, by the scalar's name.
        list_sizes: the size of every list field of every object type, by the field's coordinate.
        hide_suggestions: remove "Did you mean" from every message.
        reject_nulls: reject an explicit null for a variable that is used where null is not
            allowed, before a resolver runs. graphql-core fails at the variable's field, after
            other fields have run.
        max_cached_bytes: the estimated bytes of all cached documents; the least recently used ones
            are dropped.

    Attributes:
        statistics: how often its documents were in the cache, and more.

    Raises:
        ValueError: the schema uses features that this executor does not support, or a list field
            has no declared size; the message names them.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        limits: Limits | None = None,
        rules: Sequence[type[ASTValidationRule]] = (),
        leaves: Mapping[str, Leaf] | None = None,
        list_sizes: Mapping[str, DeclaredSize | Sequence[SlicingArgument]] | None = None,
        hide_suggestions: bool = False,
        reject_nulls: bool = False,
        max_cached_bytes: int = CACHED_BYTES,
    ) -> None:
        _check_support(schema)
        self.limits = limits or Limits()
        self.statistics = Statistics()
        self._runtime = Runtime(
            schema._schema,
            leaves or {},
            ListSizes(schema._schema, list_sizes or {}),
            PreparedResolvers(schema),
            hide_suggestions,
            reject_nulls,
            self.limits.items,
            self.statistics,
        )
        self._rules = (
            *rules_for(schema._schema),
            MaybeNullValidationRule,
            OneOfInputValidationRule,
            *rules,
        )
        self._documents: Cache[str, Document] = Cache(max_cached_bytes)

    def find_kind(self, text: str, name: str | None = None) -> OperationType | None:
        """The kind of operation that a request would run, without parsing the document.

        None if the document has no such operation, or more than one. For a document that cannot
        be prepared the result has no meaning.
        """
        document = self._documents.get(text)
        if document is not None:
            return document.find_kind(name)
        if len(text) > self.limits.length:
            return None
        return find_kind(text, name, self.limits.tokens)

    @property
    def cached_documents(self) -> int:
        """The number of documents in the cache."""
        return len(self._documents)

    @property
    def cached_bytes(self) -> int:
        """The estimated bytes of the documents in the cache."""
        return self._documents.weight

    def is_cached(self, text: str) -> bool:
        """Whether the prepared document is in the cache."""
        return text in self._documents

    def prepare(self, text: str) -> Document:
        """The document, parsed and validated, or from the cache.

        Rejections are not cached, so that invalid documents cannot displace valid ones.

        Raises:
            RequestRejected: at `Stage.PARSE`, `LIMITS` or `VALIDATION`.
        """
        document = self._documents.get(text)
        if document is not None:
            self.statistics.hits += 1
        else:
            self.statistics.misses += 1
            node = self._parse(text)
            self._check_limits(node)
            self._validate(node, self._rules)
            document = Document(self._runtime, node, partial(self._documents.grow, text))
            weight = weights.BASE + weights.TOKEN * node.token_count + weights.text_bytes(text)
            self._documents.put(text, document, weight)
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
            raise RequestRejected(Stage.PARSE, [error]) from None

    def _check_limits(self, node: DocumentNode) -> None:
        try:
            check(node, self.limits)
        except CyclicFragments:
            self._validate(node, (NoFragmentCyclesRule,))
            raise

    def _validate(self, node: DocumentNode, rules: Sequence[type[ASTValidationRule]]) -> None:
        errors = validate(
            self._runtime.schema, node, rules, hide_suggestions=self._runtime.hide_suggestions
        )
        if errors:
            raise RequestRejected(Stage.VALIDATION, errors)


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
