"""GraphiQL, for exploring outside production, from our own files alone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.http.negotiation import best_media_type
from api.settings import Settings

_FOLDER: Final = Path(__file__).parent / "graphiql"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src data:; worker-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept",
}

# The names are the same for every build: ask each time, and be told 304. A worker has a policy of
# its own, from its own file.
_ASSET_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_wanted(scope: Scope) -> bool:
    """Whether a browser asks for a page rather than a client for an answer."""
    html = "text/html"
    return scope["method"] == "GET" and best_media_type(scope, ("application/json", html)) == html


def page(settings: Settings) -> Response:
    """The page. The demo token, where there is one, stands in it and nowhere else."""
    token = settings.demo_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    told = json.dumps({"endpoint": "/graphql", "headers": headers}).replace("<", "\\u003c")
    template = (_FOLDER / "page.html").read_text(encoding="utf-8")
    body = template.replace("{{twofold}}", told)
    return Response(body, headers=_HEADERS, media_type="text/html")


def assets() -> Callable[[Request], Awaitable[Response]]:
    """Serves what the page loads, by the name in the path."""
    files = StaticFiles(directory=_FOLDER / "dist")

    async def asset(request: Request) -> Response:
        response = await files.get_response(request.path_params["name"], request.scope)
        response.headers.update(_ASSET_HEADERS)
        return response

    return asset
