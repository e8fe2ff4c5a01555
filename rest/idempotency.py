"""The header ``Idempotency-Key``: which writes are done once, and how OpenAPI documents it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, final

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from api.headers import header_values
from api.http.links import path_in_app
from api.request import context_of
from api.state import state_of
from persistence.errors import FieldError, InvalidInput
from persistence.idempotency import HEADER, IdempotentWrite, fingerprint, parse_key
from persistence.tables import KEY_LENGTH

_HEADER: Final = HEADER.lower().encode()


@final
@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key."""

    scope: Scope
    key: str

    def write(self, *content: Any) -> IdempotentWrite:
        """The write that the request asks for. Its method and its path always count.

        Args:
            content: what the handler read: validated JSON values.
        """
        digest = fingerprint("rest", self.scope["method"], path_in_app(self.scope), *content)
        hours = state_of(self.scope).settings.idempotency_hours
        write = IdempotentWrite(self.key, digest, hours)
        context_of(self.scope).idempotent_writes[""] = write
        return write


def keyed_request(request: Request) -> KeyedRequest | None:
    """The request with its idempotency key; ``None`` if it has none.

    Raises:
        InvalidInput: the header is malformed, or sent twice.
    """
    values = header_values(request.scope, _HEADER)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidInput([FieldError(HEADER, "Should occur only once", "repeated_header")])
    return KeyedRequest(request.scope, parse_key(values[0].decode("latin-1").strip(), HEADER))


Keyed = Annotated[KeyedRequest | None, Depends(keyed_request)]
"""The type of a handler's parameter."""


PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Do this once: a repeat with the same key gets the first response.",
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

WITH_KEY: Final = {"parameters": [PARAMETER]}
"""The same for a route's ``openapi_extra``."""

REPLAYED: Final = {
    "Idempotency-Replayed": {
        "schema": {"type": "string", "const": "true"},
        "description": "The response is that of an earlier request with this key.",
    }
}
"""The header of a repeated response, in OpenAPI."""
