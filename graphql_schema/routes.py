"""The paths of the GraphQL door: the endpoint, and outside production the page to explore it."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.settings import Settings
from graphql_schema import graphiql_page as ide
from graphql_schema.endpoint import Door
from graphql_schema.schema import engine

PATH: Final = "/graphql"


def routes(settings: Settings) -> list[BaseRoute]:
    """What is served under ``/graphql``."""
    door = Door(engine(settings), max_page=settings.graphql_max_page_size)
    if settings.is_production:
        return [_endpoint(door)]
    return [_endpoint(Explored(door, settings)), Route(f"{PATH}/assets/{{name}}", ide.assets())]


def _endpoint(app: ASGIApp) -> Route:
    return Route(PATH, app, methods=["GET", "POST"])


class Explored:
    """The endpoint, with a page for the browsers that come by."""

    def __init__(self, door: Door, settings: Settings) -> None:
        self._door = door
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app: ASGIApp = ide.page(self._settings) if ide.is_wanted(scope) else self._door
        await app(scope, receive, send)
