"""The API's documentation page: Swagger UI, loaded from this server only, behind any prefix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api.http.links import relative_reference

_FOLDER: Final = Path(__file__).parent / "docs"

PATH: Final = "/docs"

_FILES: Final = {
    "/docs/init.js": ("init.js", "text/javascript"),
    "/docs/swagger-ui.css": ("swagger-ui.css", "text/css"),
    "/docs/swagger-ui-bundle.js": ("swagger-ui-bundle.js", "text/javascript"),
    "/docs/swagger-ui-bundle.js.LICENSE.txt": (
        "swagger-ui-bundle.js.LICENSE.txt",
        "text/plain",
    ),
    "/docs/LICENSE": ("LICENSE", "text/plain"),
    "/docs/NOTICE": ("NOTICE", "text/plain"),
}
"""The name and the media type of each file, by its path; no other file is served."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def routes() -> list[BaseRoute]:
    """The routes of the page, of the files that it loads, and of the document that it shows."""
    files = [Route(path, _serve(name, media_type)) for path, (name, media_type) in _FILES.items()]
    return [Route(PATH, page), *files, Route("/openapi.json", openapi)]


async def page(request: Request) -> Response:
    """The page, with references that hold at ``/docs`` and at ``/docs/``."""
    text = _content("index.html").decode()
    for path in (PATH, "/openapi.json"):
        text = text.replace(f'"{path}', f'"{relative_reference(request.scope, path)}')
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(text, headers=headers, media_type="text/html")


def _serve(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return Response(_content(name), headers=headers, media_type=media_type)

    return file


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


async def openapi(request: Request) -> Response:
    """The document at ``/openapi.json``. It is written once: strangers may ask as they like."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = bytes(JSONResponse(request.app.openapi()).body)
    return Response(state.openapi, media_type="application/json")
