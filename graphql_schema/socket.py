"""Subscriptions over WebSockets: graphql-transport-ws.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md

Strawberry's handler is not used. It closes the socket for a syntax error, and knows no deadline, no
session, no budget and not the compiled engine. Queries and mutations are refused: they are
requests of HTTP, with statuses, retries and idempotency keys.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any, Final

from graphql import GraphQLError
from slowapi.errors import RateLimitExceeded
from starlette.types import Message, Receive, Scope, Send

from api.admission import Admission
from api.auth.bearer_token import bearer_token, without_token
from api.charges import ONE_READ
from api.errors import TooManyStreams, Unauthenticated, describe
from api.headers import set_header
from api.http.body import decode_json
from api.http.json import encode_json
from api.live.errors import StreamCut
from api.rate_limit.budget import address_payer, viewer_payer
from api.request import RequestContext, context_of, report, set_context
from api.state import state_of
from graphql_schema.compiled import RequestRejected
from graphql_schema.endpoint import GraphQLEndpoint
from graphql_schema.errors import field_error, not_persisted, rejection_errors, request_error
from graphql_schema.requests import PersistedQuery, request_of
from graphql_schema.subscriptions import first_changes, result
from persistence.errors import InvalidInput, Unavailable
from persistence.sessions.store import UnusableSessions
from persistence.viewer import Viewer

SUBPROTOCOL: Final = "graphql-transport-ws"

INIT_SECONDS: Final = 10.0
"""Seconds in which ``connection_init`` has to arrive."""

MAX_OPERATIONS: Final = 10
"""The most subscriptions of a socket."""

MAX_REASON: Final = 123
"""The most bytes of the reason in a close frame (RFC 6455, 5.5)."""

_IDLE_SECONDS: Final = 3600.0


class SocketEndpoint:
    """The ASGI endpoint of WebSockets at ``/graphql``.

    Args:
        endpoint: admits the subscriptions, as those by server-sent events.
    """

    def __init__(self, endpoint: GraphQLEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket.

        Raises:
            Unavailable: the instance has too many, or leaves; nothing was accepted.
        """
        await receive()
        socket = _Socket(self._endpoint, scope, receive, send)
        sockets = state_of(scope).live.sockets
        sockets.add(socket)
        try:
            await socket.serve()
        except OSError:
            return  # The client has gone.
        finally:
            sockets.remove(socket)


class _Closed(Exception):
    """The socket is closed because of what the client sent."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason


class _Socket:
    """One socket; see ``api.live.sockets.Socket``."""

    def __init__(
        self, endpoint: GraphQLEndpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.address = address_payer(scope)
        self.bearer = b""
        self.viewer: Viewer | None = None
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._context = context_of(scope)
        self._state = state_of(scope)
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._is_initialised = False
        self._operations: dict[str, asyncio.Task[None]] = {}

    def close(self, code: int, reason: str) -> None:
        """Close it soon. Further calls do nothing."""
        if not self._end.done():
            self._end.set_result((code, reason))

    async def serve(self) -> None:
        """Accept the socket, and serve it until either side closes it."""
        loop = asyncio.get_running_loop()
        is_known = SUBPROTOCOL in self._scope["subprotocols"]
        await self._accept(SUBPROTOCOL if is_known else None)
        if not is_known:
            await self._send_close(4406, "Subprotocol not acceptable")
            return
        age = self._state.settings.live_max_seconds * random.uniform(0.8, 1.2)
        timers = (
            loop.call_later(INIT_SECONDS, self._require_init),
            loop.call_later(age, self.close, 1012, "The socket is old. Connect again."),
        )
        reading = asyncio.create_task(self._read())
        try:
            ends: set[asyncio.Future[Any]] = {reading, self._end}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in timers:
                timer.cancel()
            await _cancel(reading, *self._operations.values())
        if self._end.done():
            await self._send_close(*self._end.result())

    async def _accept(self, subprotocol: str | None) -> None:
        headers = [(b"x-request-id", self._context.request_id.encode())]
        await self._send(
            {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        )
        self._context.status, self._context.events = 101, 0

    async def _send_close(self, code: int, reason: str) -> None:
        self._context.close_code = code
        reason = reason.encode()[:MAX_REASON].decode(errors="ignore")
        # It waits for a client that reads nothing; the server then closes by itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def _require_init(self) -> None:
        if not self._is_initialised:
            self.close(4408, "Connection initialisation timeout")

    # --- Messages of the client -----------------------------------------------------------------

    async def _read(self) -> None:
        """Take the client's messages, until it closes the socket or sends an invalid one."""
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._note_end(message)
                    return
                await self._take(_decode(message))
        except _Closed as closed:
            self.close(closed.code, closed.reason)
        except OSError:
            # Nothing can be sent any more; the last message says why.
            while (message := await self._receive())["type"] != "websocket.disconnect":
                pass
            self._note_end(message)
        except Exception as error:
            report(self._scope, error, describe(error))
            self.close(4500, "Internal server error")

    def _note_end(self, message: Message) -> None:
        self._context.close_code = message.get("code") or 1006

    async def _take(self, message: dict[str, Any]) -> None:
        payload = message.get("payload")
        match message:
            case {"type": "connection_init"} if payload is None or isinstance(payload, dict):
                await self._initialise(payload or {})
            case {"type": "subscribe", "id": str(name), "payload": dict(members)} if name:
                self._subscribe(name, members)
            case {"type": "complete", "id": str(name)}:
                if operation := self._operations.pop(name, None):
                    operation.cancel()
            case {"type": "ping"} if payload is None or isinstance(payload, dict):
                pong = {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
                await self._send_text(encode_json(pong))
            case {"type": "pong"} if payload is None or isinstance(payload, dict):
                pass
            case _:
                raise _Closed(4400, "Invalid message")

    async def _initialise(self, payload: dict[str, Any]) -> None:
        """Find whose socket it is. One read."""
        if self._is_initialised:
            raise _Closed(4429, "Too many initialisation requests")
        self._is_initialised = True
        if token := _authorization(payload):
            set_header(self._scope, b"authorization", token)
        scope = self._request()
        try:
            self.bearer = bearer_token(scope)
            admission = Admission.of(scope, self._state.database(self._context.usage))
            viewer = await admission.authenticate(ONE_READ)
            await admission.charge(viewer_payer(viewer), ONE_READ)
            self._state.live.sockets.identify(self, viewer)
            self._context.viewer = viewer
        except Unauthenticated:
            raise _Closed(4403, "Forbidden") from None
        except (Unavailable, UnusableSessions, RateLimitExceeded, TooManyStreams) as error:
            problem = describe(error)
            report(scope, error, problem)
            self._context.error_types.append(problem.type.name)
            raise _Closed(1013, problem.detail) from None
        finally:
            context_of(scope).slots.end()
        self._state.live.begin_checking()
        await self._send_text(b'{"type":"connection_ack"}')

    def _subscribe(self, name: str, members: dict[str, Any]) -> None:
        if self.viewer is None:
            raise _Closed(4401, "Unauthorized")
        if name in self._operations:
            raise _Closed(4409, f"Subscriber for {name} already exists")
        self._operations[name] = asyncio.create_task(self._run(name, members))

    def _request(self) -> Scope:
        """The scope of one message, as if it were a request with the socket's headers."""
        scope = {**self._scope}
        before = self._context
        context = RequestContext(before.request_id, before.slots.another(), before.usage)
        # For the line of the socket in the log.
        context.reasons, context.failures = before.reasons, before.failures
        set_context(scope, context)
        return scope

    # --- Subscriptions --------------------------------------------------------------------------

    async def _run(self, name: str, members: dict[str, Any]) -> None:
        """Follow one subscription. What is wrong with its document ends it, and nothing else."""
        scope = self._request()
        try:
            await self._follow(scope, name, members)
        except Unauthenticated:
            self.close(4403, "The session has ended.")
        except (StreamCut, Unavailable, UnusableSessions) as error:
            cause = error.__cause__ if isinstance(error, StreamCut) else error
            # When an instance leaves, a stream is cut without a cause, after its socket.
            if isinstance(cause, Exception):
                report(scope, cause, describe(cause))
            self.close(1013, "The database does not answer. Connect again.")
        except OSError:
            return
        except Exception as error:
            await self._send_errors(scope, name, _errors(scope, error))
        finally:
            context_of(scope).slots.end()
            seen = self._context.error_types
            seen += [each for each in context_of(scope).error_types if each not in seen]
            if self._operations.get(name) is asyncio.current_task():
                del self._operations[name]

    async def _follow(self, scope: Scope, name: str, members: dict[str, Any]) -> None:
        if len(self._operations) > MAX_OPERATIONS:
            raise TooManyStreams(f"{MAX_OPERATIONS} subscriptions of the socket are open already")
        db = self._state.database(self._context.usage)
        call, context = await self._endpoint.admit_subscription(scope, db, request_of(members))
        changes: Any = await first_changes(scope, db, call)
        live = self._state.live
        # What changed since was read is read after this.
        stream = live.add(context_of(scope).viewer, self.bearer, changes.token)
        context_of(scope).slots.end()
        start = b'{"id":%b,"type":"next","payload":' % encode_json(name)
        try:
            while True:
                if changes is not None:
                    payload = await result(scope, call, context, changes)
                    await self._send_text(start + payload + b"}")
                    assert self._context.events is not None
                    self._context.events += 1
                changes = await stream.next(_IDLE_SECONDS)
        finally:
            live.remove(stream)

    async def _send_errors(self, scope: Scope, name: str, errors: list[dict[str, Any]]) -> None:
        message = {"id": name, "type": "error", "payload": errors}
        with suppress(OSError):
            await self._send_text(without_token(scope, encode_json(message)))

    async def _send_text(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()})


def _errors(scope: Scope, error: Exception) -> list[dict[str, Any]]:
    """The errors in the message that ends a subscription."""
    match error:
        case RequestRejected():
            return rejection_errors(scope, error)
        case PersistedQuery():
            return [not_persisted(scope)]
        case GraphQLError():
            return [field_error(scope, error)]
    problem = describe(error)
    report(scope, error, problem)
    return [request_error(scope, problem)]


def _decode(message: Any) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise _Closed(4400, "Messages are text")
    try:
        decoded = decode_json(text.encode(), "")
    except InvalidInput:
        raise _Closed(4400, "Messages are JSON") from None
    if not isinstance(decoded, dict):
        raise _Closed(4400, "Messages are JSON objects")
    return decoded


def _authorization(payload: dict[str, Any]) -> bytes | None:
    """The credentials in the payload of ``connection_init``; ``None`` if it has none.

    Some clients nest their headers. What is no text, or no ASCII, is no token.
    """
    nested = payload.get("headers")
    for members in (payload, nested if isinstance(nested, dict) else {}):
        for name in ("authorization", "Authorization"):
            if members.get(name) is not None:
                return str(members[name]).encode("latin-1", "replace")
    return None


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task
