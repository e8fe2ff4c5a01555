"""Assembles everything, nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from api.middleware import (
    CORS,
    Head,
    KnownHosts,
    Problems,
    RequestContext,
    TrailingSlash,
)
from api.settings import Settings, load
from api.state import State, opened
from persistence.errors import Unavailable
from rest import browser, health, openapi, tasks
from rest.errors import answer, handle_framework_refusal

_log = logging.getLogger("twofold")

_ALLOWED_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "X-Request-ID",
)
_EXPOSED_HEADERS = (
    "Content-Type",
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "X-Request-ID",
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app, ready for an ASGI server; it opens nothing before its lifespan begins.

    Args:
        settings: in place of what the environment says.

    Raises:
        SettingsError: the environment cannot be used; it names everything at once.
    """
    settings = settings or load()
    app = FastAPI(
        title="Twofold",
        summary="Your tasks, through REST or GraphQL.",
        version=version("twofold"),
        lifespan=_lifespan(settings),
        middleware=_middleware(settings),
        exception_handlers={HTTPException: handle_framework_refusal},
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    for router in (tasks.router, health.router):
        # The routes themselves: including a router puts FastAPI's own layers around each.
        app.router.routes.extend(router.routes)
    app.router.routes.extend(browser.routes())
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def _lifespan(settings: Settings):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings) as state:
            app.state.twofold = state
            await _look_at_sessions(state)
            yield

    return lifespan


async def _look_at_sessions(state: State) -> None:
    """Refuse to start on sessions that can't be read. A database that is away is no reason."""
    try:
        await state.authenticator.find_sessions(state.probe())
    except Unavailable as error:
        _log.warning("starting unready, the database does not answer: %s", error.reason)


def _middleware(settings: Settings) -> list[Middleware]:
    """What every request passes, the outermost first."""
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if settings.is_production:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    layers = [
        Middleware(RequestContext, headers=headers),
        Middleware(
            CORS,
            answer=answer,
            allow_origins=settings.origins,
            allow_methods=_ALLOWED_METHODS,
            allow_headers=_ALLOWED_HEADERS,
            allow_credentials=True,
            expose_headers=_EXPOSED_HEADERS,
            max_age=600,
        ),
        Middleware(Head),
        Middleware(Problems, answer=answer),
        Middleware(TrailingSlash),
    ]
    if not settings.is_production:
        hosts = ("localhost", "127.0.0.1", "[::1]", settings.host)
        layers.append(Middleware(KnownHosts, hosts=hosts))
    return layers
