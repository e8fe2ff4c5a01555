"""The API's documentation page: Swagger UI, loaded from this server only, behind any prefix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.http.files import file_response
from api.http.links import relative_reference

_FOLDER: Final = Path(__file__).parent / "docs"

PATH: Final = "/docs"

_FILES: Final = (
    "init.js",
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


def routes() -> list[BaseRoute]:
    """The routes of the page, of the files that it loads, and of the document that it shows."""
    files = [Route(f"{PATH}/{name}", _serve(name)) for name in _FILES]
    return [Route(PATH, page), *files, Route("/openapi.json", openapi)]


async def page(request: Request) -> Response:
    """The page, with references that hold at ``/docs`` and at ``/docs/``."""
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    for path in (PATH, "/openapi.json"):
        text = text.replace(f'"{path}', f'"{relative_reference(request.scope, path)}')
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(text, headers=headers, media_type="text/html")


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
