"""The header ``Idempotency-Key``: which writes are done once, and how OpenAPI documents it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import Request

from api.headers import header_values
from api.http.links import path_in_app
from api.request import context_of
from api.state import state_of
from persistence.errors import FieldError, InvalidInput
from persistence.idempotency import HEADER, Once, fingerprint, parse_key
from persistence.tables import KEY_LENGTH

_HEADER: Final = HEADER.lower().encode()


def once(request: Request) -> Callable[..., Once] | None:
    """Makes the request's ``Once`` from what its handler read: validated JSON values.

    ``None`` if the request has no key. The method and the path always count.

    Raises:
        InvalidInput: the header is malformed, or sent twice.
    """
    values = header_values(request.scope, _HEADER)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidInput([FieldError(HEADER, "Should be given once", "repeated_header")])
    return partial(_once, request, parse_key(values[0].decode("latin-1").strip(), HEADER))


OnceOf = Annotated[Callable[..., Once] | None, Depends(once)]


def _once(request: Request, key: str, *content: Any) -> Once:
    scope = request.scope
    digest = fingerprint("rest", scope["method"], path_in_app(scope), *content)
    made = Once(key, digest, state_of(scope).settings.idempotency_hours)
    context_of(scope).once[""] = made
    return made


PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Do this once: a repeat with the same key gets the first answer.",
    "schema": {
        "type": "string",
        # Servers and clients trim a header's value of spaces.
        "pattern": r'^("[ -~]+"|[!#-~]([ -~]*[!-~])?)$',
        "minLength": 1,
        "maxLength": KEY_LENGTH,
        "examples": ["1f0e8d9c-3b1a-4c55-9a53-7f5a3f0d2c11"],
    },
}
"""The header in OpenAPI."""

REPLAYED: Final = {
    "Idempotency-Replayed": {
        "schema": {"type": "string", "const": "true"},
        "description": "The answer is that of an earlier request with this key.",
    }
}
"""The header of a repeated answer, in OpenAPI."""
