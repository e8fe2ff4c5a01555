"""Request heads: which are refused before the app is called, and what the app gets of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import httptools
from httptools import HttpParserError
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

INVALID: Final = "Invalid HTTP request received."

_CLOSE: Final = {"Connection": "close"}
_INVALID: Final = PlainTextResponse(INVALID, 400, _CLOSE)
_CODED: Final = PlainTextResponse("No transfer coding but chunked is known here.", 501, _CLOSE)
_VERSION: Final = PlainTextResponse("This server uses HTTP/1.1.", 505, _CLOSE)

Headers = list[tuple[bytes, bytes]]


def refusal(
    method: bytes, target: bytes, version: str, headers: Headers
) -> PlainTextResponse | None:
    """The response to a refused head, after which the connection closes; ``None`` for others.

    505 for a version other than 1.0 and 1.1 (RFC 9110, 15.6.6). 400 for a target in none of the
    forms of RFC 9112, 3.2. 400 or 501 for an unsupported transfer coding (RFC 9112, 6.1).
    """
    if version not in ("1.1", "1.0"):
        return _VERSION
    if b"#" in target or (target[:1] != b"/" and not _is_other_form(method, target)):
        return _INVALID
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if not codings:
        return None
    if version != "1.1":
        return _INVALID
    return None if b",".join(codings).strip().lower() == b"chunked" else _CODED


def _is_other_form(method: bytes, target: bytes) -> bool:
    """Whether a target has absolute form, or is the asterisk of OPTIONS."""
    if target == b"*":
        return method == b"OPTIONS"
    try:
        url = httptools.parse_url(target)
    except HttpParserError:
        return False
    return url.schema.lower() in (b"http", b"https") and bool(url.host) and url.userinfo is None


def with_authority(target: bytes, headers: Headers) -> bytes:
    """The origin form of a target in absolute form. Its authority replaces ``Host`` in ``headers``.

    RFC 9112, 3.2.2. Two ``Host`` headers remain two, which is another error.
    """
    if target == b"*":
        return target
    authority, slash, path = target.partition(b"://")[2].partition(b"/")
    authority, mark, query = authority.partition(b"?")
    for index, (name, _) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, authority)
    if mark:
        return b"/?" + query + slash + path
    return b"/" + path


def head(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """A request's head as bytes for a parser."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", b""])


def head_without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The same without its ``Upgrade`` headers."""
    return head(method, target, version, [pair for pair in headers if pair[0] != b"upgrade"])


def asks_for_websocket(method: bytes, target: bytes, version: str, headers: Headers) -> bool:
    """Whether a request without a body asks for a WebSocket (RFC 6455, 4.2.1)."""
    values = dict(headers)
    return (
        (method, version, target[:1]) == (b"GET", "1.1", b"/")
        and values.get(b"upgrade", b"").strip().lower() == b"websocket"
        and b"transfer-encoding" not in values
        and values.get(b"content-length", b"0") == b"0"
        and refusal(method, target, version, headers) is None
    )


def complete_scope(scope: HTTPScope, method: bytes, target: bytes, version: str) -> None:
    """Add to a scope what the request line says. Its target begins with a slash."""
    url = httptools.parse_url(target)
    path = url.path.decode("ascii")
    root = scope["root_path"]
    scope["method"] = method.decode("ascii")
    scope["http_version"] = version
    scope["path"] = root + (unquote(path) if "%" in path else path)
    scope["raw_path"] = root.encode("ascii") + url.path
    scope["query_string"] = url.query or b""
