"""Validation of a client's input against a model, and its errors by field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from persistence.bodies import Body
from persistence.errors import FieldError, InvalidInput, NotFound
from persistence.reported_values import VALUE_LENGTH, encodable, reported_value

MAX_ERRORS: Final = 100
"""The most errors that one response reports; a body has room for ten thousand."""

Model = TypeVar("Model", bound=BaseModel)


Result = TypeVar("Result")


class ErrorCollector:
    """Validates a client's input part by part, and reports the errors of all parts at once.

    ``raise_errors`` has to be called before a result is used.
    """

    def __init__(self) -> None:
        self._errors: list[FieldError] = []
        self._missing: NotFound | None = None

    def run(self, parse: Callable[..., Result], *arguments: Any) -> Result:
        """What a function makes of an input, if that is valid."""
        try:
            return parse(*arguments)
        except InvalidInput as error:
            self._errors += error.errors
        except NotFound as error:
            self._missing = error
        return cast(Result, None)

    def validate(
        self, model: type[Model], data: object, client_names: Mapping[str, str] | None = None
    ) -> Model:
        """A client's input, if it is valid.

        Args:
            model: a model of inputs.
            data: plain Python values, as a JSON decoder makes them.
            client_names: the client's names of the model's fields, where they differ.
                A name may be a dotted path. Errors use these names.
        """
        if issubclass(model, Body) and model.has_read_only(data):
            data = model.without_read_only(data)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            self._errors += field_errors(error, client_names or {})
        return cast(Model, None)

    def add(self, errors: Iterable[FieldError]) -> None:
        """Add errors that another function found."""
        self._errors += errors

    def raise_errors(self) -> None:
        """Require that every input is valid.

        Raises:
            InvalidInput: with all errors, at most ``MAX_ERRORS``.
            NotFound: nothing else is wrong, but an id is out of range.
        """
        if self._errors:
            raise InvalidInput(self._errors[:MAX_ERRORS])
        if self._missing:
            raise self._missing


def field_errors(error: ValidationError, client_names: Mapping[str, str]) -> list[FieldError]:
    """Pydantic's errors in the contract's form, at most ``MAX_ERRORS``."""
    return [
        FieldError(
            field=(field := _field(line["loc"], client_names)),
            message=_MESSAGES.get(line["type"], line["msg"]),
            code=_CODES.get(line["type"], line["type"]),
            value=None if line["type"] == "missing" else reported_value(line["input"], field),
        )
        for line in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
    ]


def _field(path: tuple[int | str, ...], client_names: Mapping[str, str]) -> str:
    dotted = ".".join(client_names.get(str(part), str(part)) for part in path)
    return encodable(dotted)[:VALUE_LENGTH]


_CODES: Final = {"string_pattern_mismatch": "string_nul"}
_MESSAGES: Final = {
    # Pydantic's is about Python's dictionaries, and names our class.
    "model_type": "Input should be an object",
    # ``WITHOUT_NUL`` has the only pattern that a client's text is compared with.
    "string_pattern_mismatch": "String should not contain U+0000",
}
"""Where pydantic's words say less than ours, by its code."""
