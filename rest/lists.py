"""What requests and responses of lists have besides rows: the next page, and the total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Depends
from starlette.requests import Request

from api.headers import header_values

PREFER: Final = "Prefer"

_COUNT: Final = "count=exact"


def query_pairs(request: Request) -> Sequence[tuple[str, str]]:
    """The query parameters as they were sent."""
    return request.query_params.multi_items()


QueryPairs = Annotated[Sequence[tuple[str, str]], Depends(query_pairs)]


def link_to_next(pairs: Sequence[tuple[str, str]], cursor: str | None) -> list[tuple[bytes, bytes]]:
    """The ``Link`` header, if there is a next page (RFC 8288). It keeps every parameter.

    A relative reference, because a proxy may serve us under any host name and any prefix.
    """
    if cursor is None:
        return []
    others = [(name, value) for name, value in pairs if name != "cursor"]
    return [(b"link", f'<?{urlencode([*others, ("cursor", cursor)])}>; rel="next"'.encode())]


def is_count_preferred(request: Request) -> bool:
    """Whether the client asks for the total: ``Prefer: count=exact`` (RFC 7240).

    Other preferences are ignored, as that says.
    """
    preferences = b",".join(header_values(request.scope, b"prefer")).decode("latin-1").split(",")
    return any(_token(preference) == _COUNT for preference in preferences)


IsCountPreferred = Annotated[bool, Depends(is_count_preferred)]


def _token(preference: str) -> str:
    name, _, value = preference.partition(";")[0].partition("=")
    return f"{name.strip().lower()}={value.strip().strip(chr(34))}"


def total_headers(total: int) -> list[tuple[bytes, bytes]]:
    """The headers that response ``Prefer: count=exact``."""
    return [(b"preference-applied", _COUNT.encode()), (b"x-total-count", b"%d" % total)]


LINK: Final[dict[str, Any]] = {
    "Link": {
        "schema": {"type": "string"},
        "description": 'When there are more: `<?cursor=…>; rel="next"`, a relative reference that '
        "keeps the other parameters.",
    }
}
"""The header in OpenAPI."""

TOTAL: Final[dict[str, Any]] = {
    "X-Total-Count": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "How many tasks pass the filter; with `Prefer: count=exact`.",
    },
    "Preference-Applied": {
        "schema": {"type": "string", "const": _COUNT},
        "description": "That `Prefer` was followed.",
    },
}
"""The headers of a total in OpenAPI."""

PREFERENCE: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": PREFER,
            "in": "header",
            "required": False,
            "description": "`count=exact`: the response also has `X-Total-Count`.",
            "schema": {"type": "string", "examples": [_COUNT]},
        }
    ]
}
"""The header ``Prefer`` in OpenAPI, for a route's ``openapi_extra``."""
