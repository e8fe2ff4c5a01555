"""What every request passes, whatever its path: pure ASGI, one noun each."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import UnknownHost, path_for_logs
from api.http.body import header_values
from api.rate_limit.budget import Charge
from persistence.errors import FieldError, InvalidInput, Unavailable
from persistence.sessions.layouts import UnusableSessions

access_log = logging.getLogger("twofold.access")

_ACCEPTABLE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Startup:
    """Makes a refusal to start one sentence in the server's log; Starlette's is a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the app's lifespan; everything else passes."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failure: list[Message] = []

        async def withheld(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failure.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, withheld)
        except UnusableSessions as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            for message in failure:
                await send(message)
            raise


class RequestContext:
    """Gives each request its id, each answer the headers that every answer has, and one log line.

    Args:
        headers: of every answer that does not say otherwise itself.
    """

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._defaults = [
            (name.lower().encode(), value.encode()) for name, value in headers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        charges: list[Charge] = []
        scope["charges"] = charges
        # The types of the errors that are told: a GraphQL answer has them beneath a 200.
        problems: list[str] = []
        scope["problems"] = problems
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(message, request_id, charges)
            await send(message)

        try:
            await self._app(scope, receive, dressed)
        finally:
            if access_log.isEnabledFor(logging.INFO):
                _log_access(scope, status, time.perf_counter() - started, problems)

    def _dress(self, message: Message, request_id: str, charges: list[Charge]) -> None:
        headers = list(message.get("headers", ()))
        present = {name for name, _ in headers}
        headers += [pair for pair in self._defaults if pair[0] not in present]
        headers.append((b"x-request-id", request_id.encode()))
        for charge in charges:
            headers += charge.headers
        message["headers"] = headers


def _request_id(scope: Scope) -> str:
    sent = header_values(scope, b"x-request-id")
    if len(sent) == 1 and _ACCEPTABLE_ID.fullmatch(sent[0]):
        return sent[0].decode()
    return secrets.token_hex(16)


def _log_access(scope: Scope, status: int, seconds: float, problems: list[str]) -> None:
    access_log.info(
        "%s %s %d %.1fms request_id=%s%s",
        scope["method"],
        path_for_logs(scope),
        status,
        seconds * 1000,
        scope["request_id"],
        f" error={','.join(sorted(set(problems)))}" if problems else "",
    )


class Head:
    """Answers HEAD as GET without the body, wherever there is a GET (RFC 9110, 9.3.2)."""

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


class TrailingSlash:
    """Serves ``/tasks/`` as ``/tasks``. A redirect would break CORS preflights and lose bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if len(path) > 1 and path[-1] == "/" and path[-2] != "/":
            scope = {**scope, "path": path[:-1]}
        await self._app(scope, receive, send)


Answer = Callable[[Scope, Exception], Response]
"""Makes the response to a request that ended in an exception."""


class CORS(CORSMiddleware):
    """Starlette's, with its refusal of a preflight told as every other refusal is.

    Args:
        answer: dresses a refusal.
        options: Starlette's.
    """

    def __init__(self, app: ASGIApp, /, answer: Answer, **options: Any) -> None:
        super().__init__(app, **options)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and _is_preflight(scope):
            response = self._preflight(scope)
            await response(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope) -> Response:
        decided = self.preflight_response(Headers(scope=scope))
        if decided.status_code < 400:
            return _without_content(decided)
        reason = bytes(decided.body).decode()
        response = self._answer(scope, InvalidInput([FieldError("", reason, "cors_disallowed")]))
        for name, value in decided.headers.items():
            if name.startswith("access-control-"):
                response.headers[name] = value
        response.headers.add_vary_header("Origin")
        return response


def _is_preflight(scope: Scope) -> bool:
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


def _without_content(decided: Response) -> Response:
    names = ("content-type", "content-length")
    headers = {name: value for name, value in decided.headers.items() if name not in names}
    return Response(status_code=204, headers=headers)


class KnownHosts:
    """Answers only for the hosts it was told, against DNS rebinding.

    Args:
        hosts: names and addresses, without ports; an IPv6 address in brackets.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            UnknownHost: it was meant for another host.
        """
        if scope["type"] == "http":
            named = header_values(scope, b"host")
            if len(named) != 1 or _without_port(named[0]) not in self._hosts:
                raise UnknownHost
        await self._app(scope, receive, send)


def _without_port(host: bytes) -> str:
    text = host.decode("latin-1").strip().lower()
    return re.sub(r":[0-9]*$", "", text).rstrip(".")


class Problems:
    """Answers whatever was raised beneath it, once.

    Args:
        answer: dresses it; the two doors do so differently.
    """

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return  # Nobody is left to be answered.
        except asyncio.CancelledError:
            # The server leaves at once, and would answer 500.
            if not started:
                leaving = Unavailable("the server was told to leave at once")
                await self._answer(scope, leaving)(scope, receive, send)
            raise
        except Exception as error:
            if started:
                raise
            await self._answer(scope, error)(scope, receive, send)
