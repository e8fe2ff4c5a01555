"""The API's documentation page: Swagger UI, loaded from this server only, behind any prefix."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.http.files import file_response
from api.http.links import relative_reference
from api.settings import Settings

_FOLDER: Final = Path(__file__).parent / "docs"

PATH: Final = "/docs"

_FILES: Final = (
    "init.js",
    "docs.css",
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "LICENSE",
    "NOTICE",
)
"""No other file is served."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


# The page may contain the demo token.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
}


def routes(settings: Settings) -> list[BaseRoute]:
    """The routes of the page, of the files that it loads, and of the document that it shows.

    None if ``API_DOCS`` is false.
    """
    if not settings.api_docs:
        return []
    files = [Route(f"{PATH}/{name}", _serve(name)) for name in _FILES]
    return [Route(PATH, _page(settings)), *files, Route("/openapi.json", openapi)]


def _page(settings: Settings) -> Callable[[Request], Awaitable[Response]]:
    demo_token = None if settings.is_production else settings.demo_token
    text = demo_token and demo_token.get_secret_value()
    token = json.dumps({"token": text}).replace("<", "\\u003c")

    async def page(request: Request) -> Response:
        """The page, with references that hold at ``/docs`` and at ``/docs/``."""
        text = (_FOLDER / "index.html").read_text(encoding="utf-8")
        for path in (PATH, "/openapi.json"):
            text = text.replace(f'"{path}', f'"{relative_reference(request.scope, path)}')
        text = text.replace("{{twofold}}", token)
        return Response(text, headers=_HEADERS, media_type="text/html")

    return page


def _serve(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return file_response(request.scope, _FOLDER / name, headers)

    return file


async def openapi(request: Request) -> Response:
    """The document at ``/openapi.json``. It is written once: strangers may ask as they like."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = bytes(JSONResponse(request.app.openapi()).body)
    return Response(state.openapi, media_type="application/json")
