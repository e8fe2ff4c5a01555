"""The app: FastAPI with one layer of ours around its routes, which every request passes."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from types import SimpleNamespace
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import header_values
from api.http.cors import CORSMiddleware
from api.http.hosts import TrustedHosts
from api.http.links import path_in_app
from api.http.sending import ResponseSender
from api.http.sockets import SocketHandshakes, as_response
from api.rate_limit.redis_connection import UnusableRedis
from api.rate_limit.response_slots import RequestSlots, ResponseSlots
from api.request import RequestContext, context_of, set_context
from api.telemetry.metrics import Metrics
from api.telemetry.request_log import RequestLog
from api.telemetry.traces import TracedUsage, Traces
from persistence.errors import Unavailable
from persistence.schema_check import UnusableTables
from persistence.sessions.store import UnusableSessions
from persistence.usage import Usage

ExceptionHandler = Callable[[Scope, Exception], Response]
"""Makes the response to a request that ended in an exception."""


class Application(FastAPI):
    """FastAPI without its stack of middleware, of which nothing here uses a layer.

    Measured with it: 40 µs of CPU more for each request. In its place every request passes this
    class. It gets its context with an id, and a line in the log. Its host is checked, and
    its origin. Every exception, expected or not, becomes a response.

    Args:
        handle_exception: makes the response to an exception; the two protocols differ in it.
        hosts: which hosts to answer for.
        origins: the origins that may read responses.
        origin_pattern: a regular expression for further ones.
        headers: added to every response that does not have them already.
        log: has a line of each request.
        options: FastAPI's.

    Attributes:
        metrics: count requests, if somebody reads them.
        traces: are made of requests, if there is a collector.
    """

    def __init__(
        self,
        *,
        handle_exception: ExceptionHandler,
        hosts: TrustedHosts,
        origins: Collection[str],
        origin_pattern: str | None,
        headers: dict[str, str],
        log: RequestLog,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        # Starlette's own state is a dictionary behind attributes, read several times a request.
        self.state = SimpleNamespace(twofold=None)  # type: ignore[assignment]
        self._handle_exception = handle_exception
        self._hosts = hosts
        self._log = log
        self.metrics: Metrics | None = None
        self.traces: Traces | None = None
        self._cors = CORSMiddleware(self._serve, origins, origin_pattern)
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._response_slots = ResponseSlots()
        self._literal_routes: dict[tuple[str, str], Route] = {}
        self._pattern_routes: defaultdict[str, list[Route]] = defaultdict(list)
        self._sockets = SocketHandshakes(handle_exception, hosts, self._cors.allows)

    def add_routes(self, routes: Iterable[BaseRoute]) -> None:
        """Add routes. Those whose path has no parameter are found first, and without a search."""
        for route in routes:
            if isinstance(route, WebSocketRoute):
                self._sockets.apps[route.path] = route.app
                continue
            assert isinstance(route, Route)
            # Starlette's ``$`` also matches before a final line feed.
            route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")
            self.router.routes.append(route)
            for method in route.methods or ():
                if route.param_convertors:
                    self._pattern_routes[method].append(route)
                else:
                    self._literal_routes[method, route.path] = route

    def add_middleware(self, *arguments: Any, **options: Any) -> None:
        """Not supported.

        Raises:
            TypeError: always. A middleware would never be called.
        """
        raise TypeError("this app has no stack of middleware")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self._serve_lifespan(scope, receive, send)
            return
        started = time.perf_counter()
        usage = TracedUsage() if self.traces else Usage()
        context = RequestContext(_request_id(scope), RequestSlots(self._response_slots), usage)
        set_context(scope, context)
        serve: ASGIApp = self._cors if header_values(scope, b"origin") else self._serve
        if scope["type"] == "websocket":
            scope["method"], serve, send = "GET", self._sockets, as_response(send)
        try:
            await serve(scope, receive, ResponseSender(send, scope, context, self._headers))
        finally:
            context.slots.end()
            seconds = time.perf_counter() - started
            if self.traces:
                self.traces.record(scope, context, seconds)
            self._log.write(scope, context, seconds)
            if self.metrics:
                self.metrics.record(scope, context, seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request whose origin was checked, if it has one."""
        try:
            self._hosts.require(scope)
            scope = _canonical(scope)
            app = self._find(scope)
            await app(scope, receive, send)
        except ClientDisconnect:
            return  # The client cannot receive a response.
        except asyncio.CancelledError:
            # The server stops at once; without a response from here it would answer 500.
            if not context_of(scope).status:
                error = Unavailable("the server was told to stop at once")
                await self._handle_exception(scope, error)(scope, receive, send)
            raise
        except Exception as error:
            if context_of(scope).status:
                raise
            await self._handle_exception(scope, error)(scope, receive, send)

    def _find(self, scope: Scope) -> ASGIApp:
        """The app of the route that a request is for. Its path's parameters go into the scope."""
        method, path = scope["method"], path_in_app(scope)
        route = self._literal_routes.get((method, path))
        if route is not None:
            context_of(scope).route = route.path_format
            return route.app
        for route in self._pattern_routes.get(method, ()):
            if match := route.path_regex.match(path):
                scope["path_params"] = match.groupdict()
                context_of(scope).route = route.path_format
                return route.app
        # It refuses an unknown path, and a method that a path does not have.
        return self.router

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop, where Starlette would log a traceback.

        Unusable tables are logged as one sentence. After a second Ctrl-C, when uvicorn only cancels
        the lifespan, the app is shut down as usual.
        """
        failures: list[Message] = []

        async def send_unless_failed(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        async def receive_or_shutdown() -> Message:
            try:
                return await receive()
            except asyncio.CancelledError:
                return {"type": "lifespan.shutdown"}

        try:
            await self.router(scope, receive_or_shutdown, send_unless_failed)
        except (UnusableSessions, UnusableTables, UnusableRedis) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            for message in failures:
                await send(message)
            raise


def _canonical(scope: Scope) -> Scope:
    """The scope with the method and the path that routes are declared with.

    HEAD is answered like GET on every path (RFC 9110, 9.3.2), and ``/tasks/`` like ``/tasks``: a
    redirect would break CORS preflights and lose bodies.
    """
    if scope["method"] == "HEAD":
        scope = {**scope, "method": "GET", "is_head": True}
    path = path_in_app(scope)
    if len(path) > 1 and path[-1] == "/" and path[-2] != "/":
        scope = {**scope, "path": scope["path"][:-1]}
    return scope


def _request_id(scope: Scope) -> str:
    values = header_values(scope, b"x-request-id")
    if len(values) == 1 and _ACCEPTABLE_ID.fullmatch(values[0]):
        return values[0].decode()
    return f"{_ids.getrandbits(128):032x}"


_ids: Final = random.Random()  # An id is unique, and no secret.


_ACCEPTABLE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
