"""Types of values that every resource shares: ids, text, integers and booleans."""

from __future__ import annotations

import re
from typing import Final

from pydantic import StringConstraints
from pydantic_core import PydanticCustomError

from persistence.errors import FieldError, InvalidInput, NotFound
from persistence.reported_values import reported_value

MAX_ID: Final = 2**63 - 1
"""The largest id of a row: a PostgreSQL ``bigint``."""


def parse_id(text: str, kind: str, field: str) -> int:
    """Read an id as clients write it: a canonical decimal integer.

    Args:
        kind: the resource, for ``NotFound``: ``"Task"``.
        field: the client's name of the id, for ``InvalidInput``.

    Returns:
        1 to ``MAX_ID``.

    Raises:
        InvalidInput: the text is not a canonical integer (``007``, ``4.0``, ``abc``).
        NotFound: no row can have this id (0, negative, over ``MAX_ID``).
    """
    if not _CANONICAL_INTEGER.fullmatch(text):
        raise InvalidInput([FieldError(field, _INT_PARSING, "int_parsing", reported_value(text))])
    if text.startswith("-") or len(text) > len(str(MAX_ID)) or not 1 <= int(text) <= MAX_ID:
        raise NotFound(kind, reported_value(text))
    return int(text)


_CANONICAL_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")


_INT_PARSING: Final = "Input should be a valid integer, unable to parse string as an integer"


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


WITHOUT_NUL: Final = StringConstraints(pattern=r"^[^\x00]*$")
"""Text that PostgreSQL can store.

Lone surrogates need no rule: pydantic's strings are Unicode and reject them already.
"""


def blank_to_none(text: str) -> str | None:
    """The text, or ``None`` if it is empty or has only white space."""
    return text if text.strip(WHITE_SPACE) else None


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
