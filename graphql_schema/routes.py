"""The paths of GraphQL: the endpoint, and outside production the GraphiQL page."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.settings import Settings
from graphql_schema import graphiql_page
from graphql_schema.compiled import CompiledSchema
from graphql_schema.endpoint import PATH, GraphQLEndpoint
from graphql_schema.socket import SocketEndpoint


def routes(settings: Settings, engine: CompiledSchema) -> list[BaseRoute]:
    """The routes under ``/graphql``.

    Args:
        engine: runs the documents.
    """
    endpoint = GraphQLEndpoint(engine, max_page=settings.graphql_max_page_size)
    socket = WebSocketRoute(PATH, SocketEndpoint(endpoint))
    if not settings.has_pages:
        return [_route(endpoint), socket]
    return [
        socket,
        _route(EndpointWithGraphiQL(endpoint, settings)),
        Route(f"{PATH}/assets/{{name}}", graphiql_page.asset),
    ]


def _route(app: ASGIApp) -> Route:
    return Route(PATH, app, methods=["GET", "POST"])


class EndpointWithGraphiQL:
    """The endpoint, which serves the GraphiQL page to requests that prefer HTML."""

    def __init__(self, endpoint: GraphQLEndpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: ASGIApp = self._endpoint
        if graphiql_page.is_requested(scope):
            app = graphiql_page.page(self._settings, scope, PATH)
        await app(scope, receive, send)
