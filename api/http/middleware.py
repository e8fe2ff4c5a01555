"""The middleware that every request passes, whatever its path. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import UnknownHost
from api.headers import header_values
from api.http.links import path_in_app
from api.rate_limit.answers import Answering, Answers
from api.request import RequestContext, path_for_logs, set_context
from persistence.errors import FieldError, InvalidInput, Unavailable
from persistence.migrations import UnusableTables
from persistence.sessions.layouts import UnusableSessions

_log = logging.getLogger("twofold")
access_log = logging.getLogger("twofold.access")

_ACCEPTABLE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")

PIECE: Final = 64 * 1024
"""The most bytes of a response body that are sent in one message. The server accepts the next
message when the client has read the one before, so a request ends only when all of its response
but the last piece is read."""


class StartupErrorMiddleware:
    """Logs unusable tables at startup as one sentence, where Starlette logs a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the app's lifespan; pass everything else on."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failures: list[Message] = []

        async def send_unless_failed(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except (UnusableSessions, UnusableTables) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            for message in failures:
                await send(message)
            raise


class RequestIdMiddleware:
    """Gives each request its context with an id, adds the common headers, writes the access log.

    It sends a large response in pieces. The request occupies its payer's share of responses
    (``api.rate_limit.answers``) until the last piece is sent.

    Args:
        headers: added to every response that does not have them already.
    """

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._answers = Answers()
        self._defaults = [
            (name.lower().encode(), value.encode()) for name, value in headers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        context = RequestContext(_request_id(scope), Answering(self._answers))
        set_context(scope, context)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(message, context)
            elif len(message.get("body", b"")) > PIECE:
                await _send_pieces(message, send)
                return
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            context.answering.end()
            if access_log.isEnabledFor(logging.INFO):
                _log_access(scope, status, time.perf_counter() - start, context)

    def _add_headers(self, message: Message, context: RequestContext) -> None:
        headers = list(message.get("headers", ()))
        present = {name for name, _ in headers}
        headers += [pair for pair in self._defaults if pair[0] not in present]
        headers.append((b"x-request-id", context.request_id.encode()))
        for charge in context.charges:
            headers += charge.headers
        message["headers"] = headers


async def _send_pieces(message: Message, send: Send) -> None:
    body = memoryview(message["body"])
    for start in range(0, len(body), PIECE):
        piece = body[start : start + PIECE]
        more = message.get("more_body", False) or start + PIECE < len(body)
        await send({**message, "body": piece, "more_body": more})


def _request_id(scope: Scope) -> str:
    values = header_values(scope, b"x-request-id")
    if len(values) == 1 and _ACCEPTABLE_ID.fullmatch(values[0]):
        return values[0].decode()
    return secrets.token_hex(16)


def _log_access(scope: Scope, status: int, seconds: float, context: RequestContext) -> None:
    types = ",".join(sorted(set(context.error_types)))
    access_log.info(
        "%s %s %d %.1fms request_id=%s%s",
        scope["method"],
        path_for_logs(scope),
        status,
        seconds * 1000,
        context.request_id,
        f" error={types}" if types else "",
    )


class HeadMiddleware:
    """Answers HEAD like GET, without the body, on every path that has GET (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


class TrailingSlashMiddleware:
    """Serves ``/tasks/`` as ``/tasks``. A redirect would break CORS preflights and lose bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if len(path) > 1 and path[-1] == "/" and path[-2] != "/":
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


class TrustedHostMiddleware:
    """Refuses a request that does not name exactly one host (RFC 9112, 3.2).

    Args:
        hosts: the hosts to answer for, as a protection against DNS rebinding: names, ``*.name`` for
            every name below it, and addresses, without ports, an IPv6 address in brackets.
            ``None`` allows every host. ``/health`` and what is below it answer for every host:
            a load balancer names an address that nobody configured.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        names = hosts or ()
        self._is_open = hosts is None
        self._names = {name for name in names if not name.startswith("*.")}
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            InvalidInput: the request names several hosts, or none (HTTP/1.0 may), or the value of
                ``Host`` is not a host.
            UnknownHost: the request is meant for another host.
        """
        if scope["type"] == "http":
            self._require_host(scope)
        await self._app(scope, receive, send)

    def _require_host(self, scope: Scope) -> None:
        values = header_values(scope, b"host")
        if len(values) != 1 and (values or scope["http_version"] != "1.0"):
            raise _invalid_host("Should be given once")
        if values and not _HOST.fullmatch(values[0]):
            raise _invalid_host("Should be a host, and perhaps a port")
        if self._is_open:
            return
        host = _without_port(values[0]) if values else ""
        is_known = host in self._names or host.endswith(self._suffixes)
        if not is_known and not _is_health(path_in_app(scope)):
            self._log_refusal(host)
            raise UnknownHost

    def _log_refusal(self, host: str) -> None:
        # Each host once, and only a few of them: anybody can send one.
        if len(self._logged) < _MAX_LOGGED and host not in self._logged:
            self._logged.add(host)
            _log.warning("no answer for the host %.100r; ALLOWED_HOSTS lists further ones", host)


_MAX_LOGGED: Final = 20


def _is_health(path: str) -> bool:
    return path == "/health" or path.startswith("/health/")


# uri-host [ ":" port ], where the host is not empty (RFC 3986, 3.2.2; RFC 9110, 4.2.1).
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]+)(?::[0-9]*)?", re.ASCII
)


def _invalid_host(message: str) -> InvalidInput:
    return InvalidInput([FieldError("Host", message, "host_invalid")])


def _without_port(host: bytes) -> str:
    return _PORT.sub("", host.decode("latin-1").lower()).rstrip(".")


_PORT: Final = re.compile(r":[0-9]*\Z")


Answer = Callable[[Scope, Exception], Response]
"""Makes the response to a request that ended in an exception."""


class ProblemMiddleware:
    """Makes the response to every exception that the app raises, expected or not.

    Args:
        answer: makes the response; the two protocols differ in it.
    """

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_started
            is_started = is_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            return  # The client cannot receive a response.
        except asyncio.CancelledError:
            # The server stops at once; without a response from here it would answer 500.
            if not is_started:
                error = Unavailable("the server was told to stop at once")
                await self._answer(scope, error)(scope, receive, send)
            raise
        except Exception as error:
            if is_started:
                raise
            await self._answer(scope, error)(scope, receive, send)
