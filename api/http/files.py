"""Files that this server publishes: compressed at build time, and kept by browsers.

A response that contains a secret is never compressed: its compressed length would reveal a part
of its content (BREACH).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

from api.headers import header_values
from api.http.negotiation import accepts_encoding

COMPRESSED: Final = ".gz"
"""The suffix of the compressed file beside a file."""

_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}

# What builds write into names: main-K7TB3PXI.js. Such a name never gets another content.
_HASHED: Final = re.compile(r".+-[0-9A-Z]{8}\.[a-z]+")

_YEAR: Final = 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class _Representation:
    body: bytes
    headers: Mapping[str, str]


def file_response(scope: Scope, path: Path, headers: Mapping[str, str]) -> Response:
    """The response with a file, compressed if the client accepts that, or 304 (RFC 9110, 15.4.5).

    A browser keeps a file with a hash in its name for ever, and revalidates any other each time.

    Args:
        scope: of the request.
        path: of the file; it is read when it has changed. If there is a file ``<path>.gz``, that
            is its compressed form.
        headers: further headers of the response.
    """
    plain, compressed = _representations(path, path.stat().st_mtime_ns)
    chosen = compressed if compressed and accepts_encoding(scope, "gzip") else plain
    all_headers = {**headers, **chosen.headers}
    if _is_current(scope, chosen.headers["ETag"]):
        return Response(status_code=304, headers=all_headers)
    media_type = _MEDIA_TYPES.get(path.suffix, "text/plain")
    return Response(chosen.body, headers=all_headers, media_type=media_type)


@lru_cache(maxsize=128)
def _representations(path: Path, modified: int) -> tuple[_Representation, _Representation | None]:
    is_immutable = _HASHED.fullmatch(path.name)
    common = {
        "Cache-Control": f"public, max-age={_YEAR}, immutable" if is_immutable else "no-cache",
        "Vary": "Accept-Encoding",
    }
    compressed = path.with_name(path.name + COMPRESSED)
    return (
        _representation(path, common),
        _representation(compressed, common | {"Content-Encoding": "gzip"})
        if compressed.exists()
        else None,
    )


def _representation(path: Path, headers: dict[str, str]) -> _Representation:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return _Representation(body, headers | {"ETag": etag})


def _is_current(scope: Scope, etag: str) -> bool:
    """Whether the client has this representation (RFC 9110, 13.1.2: weak tags match as well)."""
    tags = b",".join(header_values(scope, b"if-none-match")).decode("latin-1").split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags)
