"""Why a document, an operation or its variables are refused before anything runs."""

from collections.abc import Sequence
from enum import StrEnum

from graphql import GraphQLError


class Stage(StrEnum):
    """How far a request came before it was refused."""

    PARSE = "parse"
    LIMITS = "limits"
    VALIDATION = "validation"
    OPERATION = "operation"
    VARIABLES = "variables"


class Refused(Exception):
    """Nothing ran. `errors` (at least one) say why, in graphql-core's own words."""

    def __init__(self, stage: Stage, errors: Sequence[GraphQLError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.stage = stage
        self.errors = list(errors)
