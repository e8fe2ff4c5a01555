"""Assembles the app. Contains nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.errors import MethodNotAllowed, NotReady
from api.http.application import Application
from api.http.cors import LOOPBACK_ORIGIN
from api.http.hosts import TrustedHosts
from api.http.links import path_in_app
from api.server.graceful_shutdown import graceful_shutdown
from api.server.readiness import require_ready
from api.server.sweeper import sweeping
from api.settings import Settings, SettingsError, load
from api.state import State, opened
from api.telemetry.build import build_of
from api.telemetry.metrics import Metrics, metrics_folder
from api.telemetry.request_log import RequestLog
from api.telemetry.traces import Traces
from graphql_schema import endpoint as graphql_http
from graphql_schema import routes as graphql_routes
from graphql_schema.errors import Code
from graphql_schema.schema import engine
from persistence.schema_check import UnusableTables
from persistence.sessions.store import UnusableSessions
from rest import bulk_tasks, docs_page, events, health, index_page, openapi, tasks
from rest import errors as rest_errors


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the ASGI app. It opens no connection before its lifespan begins.

    Args:
        settings: the settings; ``None`` reads them from the environment.

    Raises:
        SettingsError: the settings in the environment are invalid; it names every problem.
    """
    settings = settings or load()
    app = Application(
        title="Twofold",
        summary="Your tasks, through REST or GraphQL.",
        version=version("twofold"),
        lifespan=_lifespan(settings),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        handle_exception=_error_response,
        hosts=TrustedHosts(settings.hosts),
        origins=settings.origins,
        origin_pattern=LOOPBACK_ORIGIN if settings.cors_origins is None else None,
        headers=_headers(settings),
        log=RequestLog(settings),
    )
    app.state.build = build_of(settings.build_commit)
    app.state.documents = documents = engine(settings)
    app.add_routes(
        [
            *events.router.routes,
            *tasks.router.routes,
            *bulk_tasks.router.routes,
            *graphql_routes.routes(settings, documents),
            *health.router.routes,
            index_page.route(settings),
            *docs_page.routes(settings),
        ]
    )
    if folder := metrics_folder():
        app.metrics = Metrics(
            folder, app.routes, documents, app.state.build, error_types=map(str.lower, Code)
        )
    if settings.otel_exporter_otlp_endpoint:
        try:
            app.traces = Traces(settings, app.state.build)
        except ValueError as error:
            # OpenTelemetry reads further variables of its own.
            raise SettingsError([f"OTEL_*: {error}"]) from None
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def _headers(settings: Settings) -> dict[str, str]:
    """The headers of every response that does not set them itself."""
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if settings.is_production:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return headers


def _error_response(scope: Scope, error: Exception) -> Response:
    """The response to an exception, in the form of the protocol that the path belongs to."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = MethodNotAllowed(_allowed_methods(scope))
    is_graphql = path_in_app(scope).rstrip("/") == graphql_http.PATH
    return (
        graphql_http.error_response(scope, error)
        if is_graphql
        else rest_errors.error_response(scope, error)
    )


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
            async with _observed(app, state):
                with graceful_shutdown(state):
                    async with sweeping(state):
                        yield

    return lifespan


@asynccontextmanager
async def _observed(app: FastAPI, state: State) -> AsyncIterator[None]:
    """Read the parts of the app for its metrics; send the last traces at the end."""
    assert isinstance(app, Application)
    try:
        with app.metrics.reading(state) if app.metrics else nullcontext():
            yield
    finally:
        if app.traces:
            await app.traces.close()


async def _require_usable_tables(state: State) -> None:
    """Do not start if tables cannot be used as configured. Other failures may end meanwhile."""
    try:
        await require_ready(state)
    except NotReady as error:
        if isinstance(error.__cause__, UnusableSessions | UnusableTables):
            raise error.__cause__ from None
