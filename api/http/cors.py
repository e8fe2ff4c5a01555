"""Cross-origin requests: which origins may read our responses (https://fetch.spec.whatwg.org/#cors)."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware as StarletteCORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Send

_log = logging.getLogger("twofold")

ALLOWED_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

EXPOSED_HEADERS: Final = (
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Allow",
    "Content-Type",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Sync-Token",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Total-Count",
)
"""The response headers that a page may read, beside those that every page may."""

LOOPBACK_ORIGIN: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
"""A page on this machine, on any port, as development servers choose them."""

MAX_LOGGED: Final = 20
"""Origins that are named in the log, each once in the life of the process."""


class CORSMiddleware(StarletteCORSMiddleware):
    """Starlette's middleware, except that a preflight may ask for any header, and is never refused.

    A closed list of request headers protects nobody: origins are listed, and no cookie is read.
    A refusal by status would hide its reason: a browser then reports the status, and not which
    origin, method or header was not allowed. The headers of the response say that.

    Args:
        app: the app.
        origins: the origins that may read responses.
        origin_pattern: a regular expression for further ones.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], origin_pattern: str | None) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_origin_regex=origin_pattern,
            allow_methods=ALLOWED_METHODS,
            allow_credentials=True,
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
        self._logged: set[str] = set()

    def allows(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may open a WebSocket: also one of the same host.

        A browser does not ask before it opens one, as it does for other requests.
        """
        if self.is_allowed_origin(origin) or origin.partition("://")[2] == host:
            return True
        self._log_refusal(origin)
        return False

    def preflight_response(self, request_headers: Headers) -> Response:
        """204, with the headers that say what is allowed."""
        headers = dict(self.preflight_headers)
        origin = request_headers["origin"]
        if self.is_allowed_origin(origin):
            headers["Access-Control-Allow-Origin"] = origin
            requested = request_headers.getlist("access-control-request-headers")
            headers["Access-Control-Allow-Headers"] = ", ".join(_names(requested))
        else:
            self._log_refusal(origin)
        return Response(status_code=204, headers=headers)

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        """Send a message of a response, with the headers for the origin of its request."""
        if message["type"] == "http.response.start":
            origin = request_headers.get("origin")
            if origin is not None and not self.is_allowed_origin(origin):
                self._log_refusal(origin)
        await super().send(message, send, request_headers)

    def _log_refusal(self, origin: str) -> None:
        # Not in a program's log for ever: anybody can send an origin.
        if len(self._logged) < MAX_LOGGED and origin not in self._logged:
            self._logged.add(origin)
            _log.warning(
                "the origin %.100r cannot read responses; CORS_ORIGINS lists those that can",
                origin,
            )


def _names(lists: Collection[str]) -> list[str]:
    """The header names in lists that a browser sent; what is no name is left out."""
    names = (name.strip() for names in lists for name in names.split(","))
    return [name for name in names if _TOKEN.fullmatch(name)]


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""A header's name (RFC 9110, 5.6.2)."""
