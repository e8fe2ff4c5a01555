"""Validation rules of our own, on top of GraphQL's."""

from __future__ import annotations

from typing import Any, Final

from graphql import FieldNode, GraphQLError, ValidationContext, ValidationRule

MAX_NESTED_ALIASES: Final = 10
"""Aliases below the root fields. A root field is paid for; below it an alias repeats, in one
answer, what may be a thousand tasks."""


class NestedAliases(ValidationRule):
    """Bounds how often an answer may repeat what it has already."""

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
