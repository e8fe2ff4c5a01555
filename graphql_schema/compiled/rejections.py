"""Why a document, an operation or its variables are rejected before a resolver runs."""

from collections.abc import Sequence
from enum import StrEnum

from graphql import GraphQLError


class Stage(StrEnum):
    """The step of processing at which a request was rejected."""

    PARSE = "parse"
    LIMITS = "limits"
    VALIDATION = "validation"
    OPERATION = "operation"
    VARIABLES = "variables"


class RequestRejected(Exception):
    """No resolver has run. `errors` (at least one) have graphql-core's messages."""

    def __init__(self, stage: Stage, errors: Sequence[GraphQLError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.stage = stage
        self.errors = list(errors)
