"""The expected errors of persistence. Knows no protocol and no driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class ExpectedError(Exception):
    """The base class of every error that has a type of its own in the catalogue."""


class NotFound(ExpectedError):
    """The viewer has no such row. Another person's row counts as none.

    Args:
        kind: the resource, capitalised as at the start of a sentence: ``"Task"``.
        identifier: the identifier as the client wrote it.
    """

    def __init__(self, kind: str, identifier: int | str) -> None:
        self.kind = kind
        self.identifier = identifier
        super().__init__(f"{kind} with ID {identifier} not found")


class VersionConflict(ExpectedError):
    """The row exists, but not at a version that the client named.

    Args:
        kind: the resource, capitalised as at the start of a sentence: ``"Task"``.
        version: the row's current version, 1 or more.
    """

    def __init__(self, kind: str, version: int) -> None:
        self.kind = kind
        self.version = version
        super().__init__(f"The {kind[:1].lower()}{kind[1:]} is at version {version}")


class SessionUnconfirmed(Exception):
    """A session that was valid before was not found with the read that should confirm it."""


class Unavailable(ExpectedError):
    """A server that we depend on did not answer in time. Whether it stored anything is unknown.

    Args:
        reason: for the log only, never for the client.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error of an input.

    Attributes:
        field: a dotted path in the client's names; ``""`` means the whole input.
        message: one sentence for a person.
        code: pydantic's error type, or one of ours.
        value: the rejected value, as JSON can carry it.
    """

    field: str
    message: str
    code: str
    value: Any = None


class InvalidInput(ExpectedError):
    """The input breaks a rule of validation; nothing was done with it.

    Args:
        errors: every error of the input, at most ``persistence.validation.MAX_ERRORS``.
    """

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))
