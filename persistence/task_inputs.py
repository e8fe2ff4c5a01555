"""What a client may say about tasks: validation, once, for both doors."""

from __future__ import annotations

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, NewType, TypeVar

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from persistence.errors import FieldError, InvalidInput, NotFound
from persistence.tables import DESCRIPTION_LENGTH, TITLE_LENGTH

MAX_ID: Final = 2**63 - 1
"""The largest id a task can have: a PostgreSQL ``bigint``."""

MAX_PAGE: Final = 1000
"""The most tasks in one page, and the most ids in one bulk deletion."""

VALUE_LENGTH: Final = 200
"""How much of an offending input an error repeats, in code points."""

MAX_ERRORS: Final = 100
"""How many errors of one input are told; a body has room for ten thousand."""

TaskId = NewType("TaskId", int)

_READ_ONLY: Final = ("id", "user_id", "version", "created_at", "updated_at")

_CANONICAL_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")


def _storable(text: str) -> str:
    # Lone surrogates need no rule: pydantic's strings are Unicode and refuse them already.
    if "\x00" in text:
        raise PydanticCustomError("string_nul", "String should not contain U+0000")
    return text


def _blank_is_none(text: str) -> str | None:
    return text if text.strip(_WHITE_SPACE) else None


# Unicode's property White_Space, which pydantic strips. Python's own idea of it has U+001C to
# U+001F besides, JavaScript's has U+FEFF and lacks U+0085.
# https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt
_WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_WHITE_SPACE_CLASS: Final = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _json_integer(value: object) -> object:
    """JSON has one kind of number: ``4.0`` is an integer (JSON Schema 2020-12, 4.2.3)."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text_integer(value: object) -> object:
    """An integer as text, in the one way it is written: no sign, no zeros in front."""
    if isinstance(value, str):
        if not _CANONICAL_INTEGER.fullmatch(value):
            raise PydanticCustomError(
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
            )
        return _bounded_int(value)
    return _json_integer(value)


def _bounded_int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python converts 4,300 digits at most, so that nobody can buy its time.
        raise PydanticCustomError(
            "int_parsing_size",
            "Unable to parse input string as an integer, exceeded maximum size",
        ) from None


def _integer_of_the_door(value: object, info: ValidationInfo) -> object:
    return _text_integer(value) if info.context == IDS_ARE_TEXT else _json_integer(value)


def _text_boolean(value: object) -> object:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise PydanticCustomError(
                "bool_parsing", "Input should be a valid boolean, true or false"
            )
        return value == "true"
    return value


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_LENGTH),
    AfterValidator(_storable),
    Field(
        description="Trimmed of white space, then 1 to 200 characters.",
        examples=["Water the plants"],
        json_schema_extra={"pattern": rf"^[^\u0000]*[^\u0000{_WHITE_SPACE_CLASS}][^\u0000]*$"},
    ),
]

Description = Annotated[
    Annotated[
        str,
        StringConstraints(max_length=DESCRIPTION_LENGTH),
        AfterValidator(_storable),
        AfterValidator(_blank_is_none),
        Field(json_schema_extra={"pattern": r"^[^\u0000]*$"}),
    ]
    | None,
    Field(
        description="At most 1000 characters, kept as sent. Blank is the same as null.",
        examples=["The fern needs little, the basil a lot."],
    ),
]

Completed = Annotated[StrictBool, Field(description="Whether the task is done.")]


def _with_read_only(schema: dict[str, Any]) -> None:
    described = {"readOnly": True, "description": "Written by the server; here it is not read."}
    schema["properties"] |= dict.fromkeys(_READ_ONLY, described)


class _Body(BaseModel):
    """A request's members: unknown ones are refused, those only we write are passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_with_read_only)

    @model_validator(mode="before")
    @classmethod
    def _without_read_only(cls, data: Any) -> Any:
        # Frontends send whole tasks back, with an edited member or two.
        if isinstance(data, dict) and not data.keys().isdisjoint(_READ_ONLY):
            return {name: value for name, value in data.items() if name not in _READ_ONLY}
        return data


class NewTask(_Body):
    """What a new task starts with."""

    title: Title
    description: Description = None
    completed: Completed = False


def _without_defaults(schema: dict[str, Any]) -> None:
    _with_read_only(schema)
    for described in schema["properties"].values():
        described.pop("default", None)


class TaskChanges(_Body):
    """What to change about a task: what is absent stays, null clears (RFC 7396)."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    title: Title = ""
    description: Description = None
    completed: Completed = False

    def given(self) -> dict[str, Any]:
        """The members that the client sent, and no others."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class TaskFilter(BaseModel):
    """Which tasks to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completed: Annotated[
        StrictBool | None,
        BeforeValidator(_text_boolean),
        Field(description="Only tasks that are done, or only those that are not."),
        WithJsonSchema({"type": "boolean"}),
    ] = None


class Position(NamedTuple):
    """A place in the list's order: after this task."""

    created_at: datetime
    id: int


def encode_cursor(position: Position) -> str:
    """The position as an opaque string of 22 URL-safe characters."""
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(_CURSOR.pack(micros, position.id)).rstrip(b"=").decode()


def decode_cursor(text: str) -> Position:
    """The position that ``encode_cursor`` made the text from.

    Raises:
        PydanticCustomError: it never made this text.
    """
    try:
        packed = urlsafe_b64decode(text.encode("ascii") + b"==")
        micros, task_id = _CURSOR.unpack(packed)
        position = Position(_EPOCH + micros * _MICROSECOND, task_id)
        canonical = encode_cursor(position) == text
    except (ValueError, OverflowError, struct.error):
        canonical = False
    if not canonical:
        raise PydanticCustomError("cursor_invalid", "Input should be a cursor from an answer")
    return position


def _whole_cursor(text: str) -> str:
    decode_cursor(text)
    return text


_CURSOR: Final = struct.Struct(">qq")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Page(TaskFilter):
    """Which part of the list: the first ``limit`` tasks of the filter's, after ``cursor``."""

    limit: Annotated[
        int,
        # The bounds first: behind a validator they would not reach the OpenAPI document.
        Field(ge=1, le=MAX_PAGE, description="The most tasks to answer with."),
        BeforeValidator(_text_integer),
    ] = MAX_PAGE
    cursor: Annotated[
        Annotated[str, AfterValidator(_whole_cursor)] | None,
        Field(description="From the `next` link of an earlier answer."),
        # An instant from 1970 to 8815, an id, and no bit beyond them.
        WithJsonSchema({"type": "string", "pattern": "^A[A-Za-v][A-Za-z0-9_-]{19}[AQgw]$"}),
    ] = None

    @property
    def position(self) -> Position | None:
        """Where the page starts: after this task."""
        return decode_cursor(self.cursor) if self.cursor is not None else None


class BulkDelete(BaseModel):
    """Which tasks to delete at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_ids: Annotated[
        list[Annotated[int, BeforeValidator(_integer_of_the_door)]],
        Field(
            min_length=1,
            max_length=MAX_PAGE,
            description="1 to 1000 ids; one given twice counts once.",
            examples=[[1, 2, 3]],
        ),
    ]


IDS_ARE_TEXT: Final = "ids are text"
"""Context for ``parse``: ids come as canonical decimal strings, as GraphQL's ``ID`` is."""

Model = TypeVar("Model", bound=BaseModel)


def parse(
    model: type[Model],
    data: object,
    spelling: Mapping[str, str] | None = None,
    context: str | None = None,
) -> Model:
    """Validate a client's input.

    Args:
        model: one of this module's.
        data: as JSON or GraphQL gave it.
        spelling: the door's names for the model's fields, where they differ.
        context: ``IDS_ARE_TEXT`` or nothing.

    Raises:
        InvalidInput: with every error there is, not only the first.
    """
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise InvalidInput(field_errors(error, spelling or {})) from None


def field_errors(error: ValidationError, spelling: Mapping[str, str]) -> list[FieldError]:
    """Pydantic's errors in the contract's form."""
    return [
        FieldError(
            field=(field := _field(found["loc"], spelling)),
            message=_message(found["type"], found["msg"]),
            code=found["type"],
            value=None if found["type"] == "missing" else shown(found["input"], field),
        )
        for found in error.errors(include_url=False, include_context=False)[:MAX_ERRORS]
    ]


def _field(path: tuple[int | str, ...], spelling: Mapping[str, str]) -> str:
    path_in_door = ".".join(spelling.get(str(part), str(part)) for part in path)
    return _encodable(path_in_door)[:VALUE_LENGTH]


def _message(code: str, said: str) -> str:
    # Pydantic speaks of Python's dictionaries, and names our class.
    return "Input should be an object" if code == "model_type" else said


def parse_task_id(text: str, field: str = "task_id") -> TaskId:
    """Read an id as a client writes it: a canonical decimal integer.

    Raises:
        InvalidInput: it is none (``007``, ``4.0``, ``abc``).
        NotFound: it is one that no task can have (0, negative, over 2^63 - 1).
    """
    if not _CANONICAL_INTEGER.fullmatch(text):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise InvalidInput([FieldError(field, message, "int_parsing", shown(text))])
    if text.startswith("-") or len(text) > len(str(MAX_ID)) or not 1 <= int(text) <= MAX_ID:
        raise NotFound("Task", shown(text))
    return TaskId(int(text))


def shown(value: Any, field: str = "") -> Any:
    """An input as an error may repeat it: as JSON, cut at 200 characters, and never a secret."""
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
