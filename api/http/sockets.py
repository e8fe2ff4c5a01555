"""WebSockets until they are accepted: the checks of a handshake, and refusals of it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import OriginNotAllowed
from api.headers import header_values
from api.http.hosts import TrustedHosts
from api.http.links import path_in_app
from api.request import context_of


class SocketHandshakes:
    """Serves a request for a WebSocket: host, origin, path, then the app of the path.

    A refusal is a response in HTTP, in the form of the path's protocol.

    Args:
        handle_exception: makes the response to an exception.
        hosts: which hosts to answer for.
        allows: whether an origin may open a WebSocket of a host.

    Attributes:
        apps: by path.
    """

    def __init__(
        self,
        handle_exception: Callable[[Scope, Exception], Response],
        hosts: TrustedHosts,
        allows: Callable[[str, str], bool],
    ) -> None:
        self.apps: dict[str, ASGIApp] = {}
        self._handle_exception = handle_exception
        self._hosts = hosts
        self._allows = allows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        context = context_of(scope)
        try:
            self._hosts.require(scope)
            self._require_origin(scope)
            path = path_in_app(scope)
            app = self.apps.get(path) or self.apps.get(path.removesuffix("/"))
            if app is None:
                raise HTTPException(404)
            context.route = path
            await app(scope, receive, send)
        except Exception as error:
            if context.status:
                raise
            await self._handle_exception(scope, error)({**scope, "type": "http"}, receive, send)

    def _require_origin(self, scope: Scope) -> None:
        host = b"".join(header_values(scope, b"host")).decode("latin-1")
        for origin in header_values(scope, b"origin"):
            if not self._allows(origin.decode("latin-1"), host):
                raise OriginNotAllowed


def as_response(send: Send) -> Send:
    """ASGI's ``send`` of a WebSocket, which takes a response in HTTP before it is accepted."""

    async def send_either(message: Message) -> None:
        if message["type"].startswith("http."):
            message = {**message, "type": f"websocket.{message['type']}"}
        await send(message)

    return send_either
