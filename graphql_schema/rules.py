"""Validation rules in addition to GraphQL's own."""

from __future__ import annotations

from typing import Any, Final

from graphql import FieldNode, GraphQLError, ValidationContext, ValidationRule

MAX_NESTED_ALIASES: Final = 10
"""The most aliases below the root fields. Each root field is charged; an alias below one can repeat
a thousand tasks in one response."""


class NestedAliases(ValidationRule):
    """Limits how often a response can repeat the same data."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._count = 0

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        """Count an alias, unless it is at the root."""
        schema = self.context.schema
        parent = self.context.get_parent_type()
        if node.alias is None or parent in (schema.query_type, schema.mutation_type):
            return
        self._count += 1
        if self._count == MAX_NESTED_ALIASES + 1:
            message = f"Document exceeds the limit on nested aliases ({MAX_NESTED_ALIASES})."
            self.report_error(GraphQLError(message, node))
