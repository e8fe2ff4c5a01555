"""From completed values to the bytes of a JSON document."""

import json
from typing import Any, Final

import msgspec


def _exact(value: Any) -> Any:
    """Subclasses of the JSON types are legal leaves, but msgspec wants the types themselves."""
    for type_, convert in _EXACT:
        if isinstance(value, type_):
            return convert(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


_EXACT: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (dict, dict),
    (list, list),
    (tuple, tuple),
)
ENCODER: Final = msgspec.json.Encoder(enc_hook=_exact)
"""Encodes what an execution completed: plain containers, leaves and structs.

It raises TypeError if a scalar's `serialize` returned what JSON cannot hold.
"""

NOT_ENCODABLE: Final = (UnicodeEncodeError, OverflowError)
"""What it raises for lone surrogates and integers over 64 bits, which `encode_any` encodes."""


def encode_any(data: Any) -> bytes:
    """The same for values that JSON can spell and msgspec will not."""
    builtins = msgspec.to_builtins(data, str_keys=True, enc_hook=_exact)
    return json.dumps(builtins, separators=(",", ":")).encode()
