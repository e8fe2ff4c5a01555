"""GraphiQL, a page to explore the API outside production. It loads only our own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.http.files import COMPRESSED, file_response
from api.http.links import relative_reference
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

# A worker's policy is that of its own file.
_ASSET_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_requested(scope: Scope) -> bool:
    """Whether the request prefers an HTML page to a GraphQL response, as browsers do."""
    html = "text/html"
    return scope["method"] == "GET" and best_media_type(scope, ("application/json", html)) == html


def page(settings: Settings, scope: Scope, endpoint: str) -> Response:
    """The page. It contains the demo token if there is one; no other file does.

    Its references are relative, so that they hold behind any prefix.

    Args:
        scope: of the request.
        endpoint: the path of the endpoint; the page's files are below it.
    """
    token = settings.demo_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    members = {
        "endpoint": relative_reference(scope, endpoint),
        "docs": relative_reference(scope, "/docs"),
        "headers": headers,
    }
    template = (_FOLDER / "page.html").read_text(encoding="utf-8")
    body = template.replace("{{assets}}", relative_reference(scope, f"{endpoint}/assets"))
    body = body.replace("{{twofold}}", json.dumps(members).replace("<", "\\u003c"))
    return Response(body, headers=_HEADERS, media_type="text/html")


async def asset(request: Request) -> Response:
    """A file that the page loads, by the name in the path.

    Raises:
        HTTPException: there is no file with this name (404).
    """
    name = request.path_params["name"]
    for path in (_FOLDER / "dist").iterdir():
        if path.name == name and path.suffix != COMPRESSED:
            return file_response(request.scope, path, _ASSET_HEADERS)
    raise HTTPException(404)
