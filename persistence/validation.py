"""Validation that every noun shares: types of values, request bodies, and errors by field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, TypeVar, cast

import msgspec
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from persistence.errors import FieldError, InvalidInput, NotFound

MAX_ID: Final = 2**63 - 1
"""The largest id of a row: a PostgreSQL ``bigint``."""

VALUE_LENGTH: Final = 200
"""The most that an error repeats of a rejected value, in code points."""

MAX_ERRORS: Final = 100
"""The most errors that one answer reports; a body has room for ten thousand."""

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], data: object, spelling: Mapping[str, str] | None = None) -> Model:
    """Validate a client's input.

    Args:
        model: a model of inputs.
        data: plain Python values, as a JSON decoder makes them.
        spelling: the client's names of the model's fields, where they differ from the model's.
            A name may be a dotted path. Errors use these names.

    Raises:
        InvalidInput: with all errors, at most ``MAX_ERRORS``, not only the first.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(field_errors(error, spelling or {})) from None


Result = TypeVar("Result")


class Checks:
    """Checks of a client's input, all of whose errors are reported at once.

    ``finish`` has to be called before a result is used.
    """

    def __init__(self) -> None:
        self._errors: list[FieldError] = []
        self._missing: NotFound | None = None

    def run(self, check: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a check, if it succeeds."""
        try:
            return check(*arguments)
        except InvalidInput as error:
            self._errors += error.errors
        except NotFound as error:
            self._missing = error
        return cast(Result, None)

    def add(self, errors: Iterable[FieldError]) -> None:
        """Add errors that another function found."""
        self._errors += errors

    def finish(self) -> None:
        """Require that every check succeeded.

        Raises:
            InvalidInput: with all errors, at most ``MAX_ERRORS``.
            NotFound: nothing else is wrong, but an id is out of range.
        """
        if self._errors:
            raise InvalidInput(self._errors[:MAX_ERRORS])
        if self._missing:
            raise self._missing


def field_errors(error: ValidationError, spelling: Mapping[str, str]) -> list[FieldError]:
    """Pydantic's errors in the contract's form, at most ``MAX_ERRORS``."""
    return [
        FieldError(
            field=(field := _field(line["loc"], spelling)),
            message=_message(line["type"], line["msg"]),
            code=line["type"],
            value=None if line["type"] == "missing" else printable(line["input"], field),
        )
        for line in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
    ]


def _field(path: tuple[int | str, ...], spelling: Mapping[str, str]) -> str:
    dotted = ".".join(spelling.get(str(part), str(part)) for part in path)
    return _encodable(dotted)[:VALUE_LENGTH]


def _message(code: str, message: str) -> str:
    # Pydantic's message is about Python's dictionaries, and names our class.
    return "Input should be an object" if code == "model_type" else message


def parse_id(text: str, kind: str, field: str) -> int:
    """Read an id as clients write it: a canonical decimal integer.

    Args:
        kind: the noun, for ``NotFound``: ``"Task"``.
        field: the client's name of the id, for ``InvalidInput``.

    Returns:
        1 to ``MAX_ID``.

    Raises:
        InvalidInput: the text is not a canonical integer (``007``, ``4.0``, ``abc``).
        NotFound: no row can have this id (0, negative, over ``MAX_ID``).
    """
    if not _CANONICAL_INTEGER.fullmatch(text):
        raise InvalidInput([FieldError(field, _INT_PARSING, "int_parsing", printable(text))])
    if text.startswith("-") or len(text) > len(str(MAX_ID)) or not 1 <= int(text) <= MAX_ID:
        raise NotFound(kind, printable(text))
    return int(text)


_CANONICAL_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_INT_PARSING: Final = "Input should be a valid integer, unable to parse string as an integer"


def printable(value: Any, field: str = "") -> Any:
    """A rejected value as an error may repeat it: JSON, cut at ``VALUE_LENGTH``, never a secret.

    Returns ``None`` if the value, or the name of its field, may be a secret, or if JSON cannot
    carry the value.
    """
    if _SECRET.search(field):
        return None
    if isinstance(value, str):
        return _encodable(value)[:VALUE_LENGTH]
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError, UnicodeError):
        return None
    if _SECRET.search(text):
        return None
    return value if len(text) <= VALUE_LENGTH else text[:VALUE_LENGTH]


_SECRET: Final = re.compile("token|secret|password|authorization|cookie", re.IGNORECASE)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


# --- Request bodies ---


class Body(BaseModel):
    """A request body. Unknown members are errors; members that only the server writes are ignored.

    Clients send whole rows back with one or two edited members, so read-only members are allowed.
    """

    READ_ONLY: ClassVar[Mapping[str, Any]] = {}
    """The members that are ignored: the types that they have in answers, by their names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _remove_read_only(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.keys().isdisjoint(cls.READ_ONLY):
            return {name: value for name, value in data.items() if name not in cls.READ_ONLY}
        return data

    def provided(self) -> dict[str, Any]:
        """The members that the client sent, and no others."""
        return {name: getattr(self, name) for name in self.model_fields_set}


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


# --- Text ---

# Unicode's property White_Space, which pydantic strips. Python's own definition also has U+001C
# to U+001F; JavaScript's also has U+FEFF and lacks U+0085.
# https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt
WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
NOT_WHITE_SPACE: Final = r"([^\s\x00\x85]|\uFEFF)"
"""A character that is none of these, nor U+0000, as a regular expression of ECMA-262.

It names neither U+2028 nor U+2029: client generators decode ``\\u2028``, and a line separator
ends a literal in JavaScript. They leave ``\\x85`` as it is.
"""


def storable(text: str) -> str:
    """Reject text that PostgreSQL cannot store.

    Lone surrogates need no rule: pydantic's strings are Unicode and reject them already.
    """
    if "\x00" in text:
        raise PydanticCustomError("string_nul", "String should not contain U+0000")
    return text


def blank_to_none(text: str) -> str | None:
    """The text, or ``None`` if it is empty or has only white space."""
    return text if text.strip(WHITE_SPACE) else None


# --- Integers and booleans ---


def json_integer(value: object) -> object:
    """An integer in JSON. ``4.0`` is one (JSON Schema 2020-12, 4.2.3); a string is not."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def text_integer(value: object) -> object:
    """An integer, or its canonical decimal text: no plus sign, no leading zeros."""
    if isinstance(value, str):
        if not _CANONICAL_INTEGER.fullmatch(value):
            raise PydanticCustomError("int_parsing", _INT_PARSING)
        return _bounded_int(value)
    return json_integer(value)


def _bounded_int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python converts at most 4,300 digits, because more would take long.
        raise PydanticCustomError(
            "int_parsing_size",
            "Unable to parse input string as an integer, exceeded maximum size",
        ) from None


def text_boolean(value: object) -> object:
    """A boolean, or its text: ``true`` or ``false``."""
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise PydanticCustomError(
                "bool_parsing", "Input should be a valid boolean, true or false"
            )
        return value == "true"
    return value
