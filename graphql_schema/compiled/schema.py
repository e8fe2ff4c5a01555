"""The engine's front: prepare a document once, then execute its operations many times."""

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
from .list_sizes import Paging
from .rejections import Refused, Stage
from .resolvers import PreparedResolvers
from .scan import find_kind
from .validation import rules_for, validate

KEPT_BYTES: Final = 32 * 2**20
"""Bytes of all documents that a process keeps, compiled functions included."""


class CompiledSchema:
    """Prepares documents for a schema and keeps the prepared ones.

    Args:
        schema: without schema extensions, operation directives and incremental delivery.
        limits: what a document may not exceed.
        rules: validation rules on top of the specified ones. They see no names, and no items of a
            list of constants.
        leaves: how custom scalars are written quickly, by the scalar's name.
        paging: the root fields whose items are limited, by coordinate: `Query.books`.
        hide_suggestions: leave "Did you mean" out of every message.
        refuse_nulls: refuse an explicit null for a variable that stands where null may not,
            before anything runs; stock fails at its field, when others have run.
        max_kept_bytes: of all documents kept, estimated; those used longest ago are dropped.

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
        max_kept_bytes: int = KEPT_BYTES,
    ) -> None:
        _check_support(schema)
        self.limits = limits or Limits()
        self._runtime = Runtime(
            schema._schema,
            leaves or {},
            paging or {},
            PreparedResolvers(schema),
            hide_suggestions,
            refuse_nulls,
            self.limits.items,
        )
        self._rules = (
            *rules_for(schema._schema),
            MaybeNullValidationRule,
            OneOfInputValidationRule,
            *rules,
        )
        self._documents: Cache[str, Document] = Cache(max_kept_bytes)

    def find_kind(self, text: str, name: str | None = None) -> OperationType | None:
        """What kind of operation a request would run, found without parsing.

        None where the document has no such operation, or more than one. For a document that
        cannot be prepared the result means nothing.
        """
        document = self._documents.get(text)
        if document is not None:
            return document.find_kind(name)
        if len(text) > self.limits.length:
            return None
        return find_kind(text, name, self.limits.tokens)

    def is_kept(self, text: str) -> bool:
        """Whether the document has been prepared already."""
        return text in self._documents

    def prepare(self, text: str) -> Document:
        """The document, parsed and validated; the next time at the price of a look-up.

        Refusals are not kept: whoever sends garbage pays for it each time, and pushes
        nobody's documents out.

        Raises:
            Refused: at `Stage.PARSE`, `LIMITS` or `VALIDATION`.
        """
        document = self._documents.get(text)
        if document is None:
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
            raise Refused(Stage.PARSE, [error]) from None

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
            raise Refused(Stage.VALIDATION, errors)


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
