"""Request bodies that every resource shares: their members, and their JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter


class Body(BaseModel):
    """A request body. Unknown members are errors; members that only the server writes are ignored.

    Clients send whole rows back with one or two edited members, so read-only members are allowed.
    """

    READ_ONLY: ClassVar[Mapping[str, Any]] = {}
    """The members that are ignored: the types that they have in responses, by their names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def has_read_only(cls, data: object) -> bool:
        """Whether a body has members that are ignored."""
        return isinstance(data, dict) and not data.keys().isdisjoint(cls.READ_ONLY)

    @classmethod
    def without_read_only(cls, data: Any) -> Any:
        """A body without the members that are ignored."""
        return {name: value for name, value in data.items() if name not in cls.READ_ONLY}

    def provided(self) -> dict[str, Any]:
        """The members that the client sent, and no others."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def nested(model: type[Body]) -> BeforeValidator:
    """For the annotation of a body within another one: its read-only members are ignored, too."""
    return BeforeValidator(
        lambda data: model.without_read_only(data) if model.has_read_only(data) else data
    )


def describe_read_only(schema: dict[str, Any], model: type[Body]) -> None:
    """Add a body's read-only members to its JSON schema, with the types that answers have.

    What a client sends as one is not even read. Without a type, generated clients would declare
    each as ``unknown``.
    """
    member = {"readOnly": True, "description": "Written by the server; here it is not read."}
    for name, type_ in model.READ_ONLY.items():
        schema["properties"][name] = TypeAdapter(type_).json_schema() | member


def describe_changes(schema: dict[str, Any], model: type[Body]) -> None:
    """The JSON schema of changes: an absent member has no default, it stays as it is."""
    describe_read_only(schema, model)
    for member in schema["properties"].values():
        member.pop("default", None)
