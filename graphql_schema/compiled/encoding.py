"""From completed values to the bytes of a JSON document."""

import json
from typing import Any

import msgspec


def encode(data: Any) -> bytes:
    """The JSON of what an execution completed: plain containers, leaves and structs.

    Raises:
        TypeError: a scalar's `serialize` returned what JSON cannot hold.
    """
    try:
        return _encoder.encode(data)
    except (UnicodeEncodeError, OverflowError):
        # Lone surrogates and integers over 64 bits: JSON can spell them, msgspec will not.
        return json.dumps(_builtins(data), separators=(",", ":")).encode()


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
_encoder = msgspec.json.Encoder(enc_hook=_exact)


def _builtins(data: Any) -> Any:
    return msgspec.to_builtins(data, str_keys=True, enc_hook=_exact)
