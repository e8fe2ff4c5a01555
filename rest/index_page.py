"""``GET /``: what this server is, and where everything is. A page for browsers in development."""

from __future__ import annotations

from html import escape
from importlib.metadata import version
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.json import encode_json
from api.http.links import relative_reference
from api.http.negotiation import best_media_type
from api.settings import Settings

_PATHS: Final = {
    "tasks": "/tasks",
    "graphql": "/graphql",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "health": "/health",
    "ready": "/health/ready",
}

_DESCRIPTIONS: Final = {
    "tasks": "REST: your tasks",
    "graphql": "GraphQL; in a browser GraphiQL, to explore it",
    "docs": "The documentation of REST",
    "openapi": "The same for programs: OpenAPI",
    "health": "Whether the process runs",
    "ready": "Whether it can serve",
}

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept",
}


def route(settings: Settings) -> Route:
    """The route of ``/``."""
    hidden = () if settings.api_docs else ("docs", "openapi")
    paths = {name: path for name, path in _PATHS.items() if name not in hidden}

    async def index(request: Request) -> Response:
        links = {name: relative_reference(request.scope, path) for name, path in paths.items()}
        media_types = ("application/json", "text/html")
        is_page = best_media_type(request.scope, media_types) == "text/html"
        if is_page and settings.has_pages:
            page = _page(settings, str(request.base_url).rstrip("/"), links)
            return Response(page, headers=_HEADERS, media_type="text/html")
        document = {"name": "Twofold", "version": version("twofold"), "links": links}
        return Response(
            encode_json(document), headers={"Vary": "Accept"}, media_type="application/json"
        )

    return Route("/", index)


def _page(settings: Settings, address: str, links: dict[str, str]) -> str:
    rows = "".join(
        f'<li><a href="{escape(link)}">/{escape(link)}</a> {escape(_DESCRIPTIONS[name])}</li>'
        for name, link in links.items()
    )
    chosen = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td><code>{escape(value)}</code></td></tr>"
        for name, value in settings.chosen().items()
    )
    return _TEMPLATE.format(
        version=escape(version("twofold")),
        environment=escape(settings.environment),
        links=rows,
        curl=escape(_curl(settings, address)),
        settings=chosen or "<tr><td>All settings have their defaults.</td></tr>",
    )


def _curl(settings: Settings, address: str) -> str:
    token = settings.demo_token.get_secret_value() if settings.demo_token else "…"
    return f"""export TOKEN={token}

curl {address}/tasks -H "Authorization: Bearer $TOKEN"

curl {address}/tasks -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{{"title": "Water the plants"}}'

curl {address}/graphql -H "Authorization: Bearer $TOKEN" \\
  -H 'Content-Type: application/json' -d '{{"query": "{{ viewer {{ userId }} }}"}}'"""


_TEMPLATE: Final = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Twofold</title>
    <link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230f766e' d='M1 2l6-1v14l-6-1z'/%3E%3Cpath fill='%235eead4' d='M15 2L9 1v14l6-1z'/%3E%3C/svg%3E">
    <style>
      :root {{ color-scheme: light dark }}
      body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem }}
      a {{ color: light-dark(#0f766e, #5eead4) }}
      pre {{ background: light-dark(#f1f5f9, #1e293b); border-radius: 6px; overflow-x: auto; padding: 1rem }}
      td {{ padding: 0 1rem .25rem 0; overflow-wrap: anywhere; vertical-align: top }}
      li {{ margin: .25rem 0 }}
    </style>
  </head>
  <body>
    <h1>Twofold</h1>
    <p>One task API with two protocols, REST and GraphQL, on the same tasks. This is version {version},
      in {environment}.</p>
    <ul>{links}</ul>
    <h2>Try it</h2>
    <pre>{curl}</pre>
    <h2>Settings that differ from their defaults</h2>
    <table>{settings}</table>
  </body>
</html>
"""  # noqa: E501
