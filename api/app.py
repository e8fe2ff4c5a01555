"""Assembles the app. Contains nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api.errors import MethodNotAllowed, NotReady
from api.http.cors import LOOPBACK_ORIGIN, CORSMiddleware
from api.http.links import path_in_app
from api.http.middleware import (
    HeadMiddleware,
    ProblemMiddleware,
    RequestIdMiddleware,
    StartupErrorMiddleware,
    TrailingSlashMiddleware,
    TrustedHostMiddleware,
)
from api.server.graceful_shutdown import CloseWhileDraining, graceful_shutdown
from api.server.readiness import require_ready
from api.settings import Settings, load
from api.state import State, opened
from graphql_schema import endpoint as graphql_http
from graphql_schema import routes as graphql_routes
from persistence.migrations import UnusableTables
from persistence.sessions.layouts import UnusableSessions
from rest import docs_page, health, index_page, openapi, tasks
from rest import errors as rest_errors


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the ASGI app. It opens no connection before its lifespan begins.

    Args:
        settings: the settings; ``None`` reads them from the environment.

    Raises:
        SettingsError: the settings in the environment are invalid; it names every problem.
    """
    settings = settings or load()
    app = FastAPI(
        title="Twofold",
        summary="Your tasks, through REST or GraphQL.",
        version=version("twofold"),
        lifespan=_lifespan(settings),
        middleware=_middleware(settings),
        exception_handlers={HTTPException: _answer_framework},
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.router.routes.extend(graphql_routes.routes(settings))
    for router in (tasks.router, health.router):
        # Not include_router, which wraps each route in further layers of FastAPI.
        app.router.routes.extend(router.routes)
    app.router.routes.extend([index_page.route(settings), *docs_page.routes()])
    for route in app.router.routes:
        _match_whole_path(route)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def _match_whole_path(route: BaseRoute) -> None:
    """End a pattern with ``\\Z``: Starlette's ``$`` also matches before a final line feed."""
    assert isinstance(route, Route)
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")


def _answer(scope: Scope, error: Exception) -> Response:
    """The response to an exception, in the form of the protocol that the path belongs to."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = MethodNotAllowed(_allowed_methods(scope))
    is_graphql = path_in_app(scope).rstrip("/") == graphql_http.PATH
    return graphql_http.answer(scope, error) if is_graphql else rest_errors.answer(scope, error)


async def _answer_framework(request: Request, error: Exception) -> Response:
    """The response to Starlette's own 404 and 405, for its exception middleware."""
    return _answer(request.scope, error)


def _allowed_methods(scope: Scope) -> list[str]:
    """Every method of the path. Starlette reports only those of the first route that matches."""
    app: FastAPI = scope["app"]
    allowed: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            allowed |= route.methods or set()
    return sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))


def _lifespan(settings: Settings):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings) as state:
            app.state.twofold = state
            await _require_usable_tables(state)
            with graceful_shutdown(state):
                yield

    return lifespan


async def _require_usable_tables(state: State) -> None:
    """Do not start if tables cannot be used as configured. Other failures may end meanwhile."""
    try:
        await require_ready(state)
    except NotReady as error:
        if isinstance(error.__cause__, UnusableSessions | UnusableTables):
            raise error.__cause__ from None


def _middleware(settings: Settings) -> list[Middleware]:
    """The middleware that every request passes, the outermost first."""
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if settings.is_production:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return [
        Middleware(StartupErrorMiddleware),
        Middleware(RequestIdMiddleware, headers=headers),
        Middleware(CloseWhileDraining),
        Middleware(
            CORSMiddleware,
            origins=settings.origins,
            origin_pattern=LOOPBACK_ORIGIN if settings.cors_origins is None else None,
        ),
        Middleware(HeadMiddleware),
        Middleware(ProblemMiddleware, answer=_answer),
        Middleware(TrailingSlashMiddleware),
        Middleware(
            TrustedHostMiddleware,
            hosts=settings.hosts,
        ),
    ]
