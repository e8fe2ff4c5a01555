"""The log line of each request.

It has nothing that a client wrote but the request's id and the name of a GraphQL operation, both
of bounded length. So it has no tokens, titles or variables, and no path: an unknown one may
contain anything. What a person does can be followed by a hash of their id.
"""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO, Final

import msgspec
import structlog
from starlette.types import Scope

from api.request import RequestContext
from api.settings import Settings
from api.telemetry.build import instance_name
from api.telemetry.log_lines import constants, frames, human_renderer, printable
from persistence.instants import rfc3339

LOGGER: Final = "twofold.request"

METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
"""Further ones are written as ``OTHER``: a client can make up any number."""

MAX_REASON: Final = 300
"""Characters of the reason of a failure."""


class RequestLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The members of a line that differ from request to request. Empty ones are left out."""

    timestamp: datetime
    level: str
    method: str
    route: str
    status: int
    ms: float
    database_ms: float
    waiting_ms: float
    redis_ms: float
    database_trips: int
    redis_trips: int
    request_id: str
    trace_id: str = ""
    operation: str = ""
    events: int | None = None
    close_code: int = 0
    user: str = ""
    client: str = ""
    errors: list[str] = msgspec.field(default_factory=list)
    reason: str = ""
    exception: str = ""


class RequestLog:
    """Writes a line for each request: INFO, or ERROR if something of ours failed.

    Args:
        file: where lines go; ``None`` for standard error.
    """

    def __init__(self, settings: Settings, file: BinaryIO | None = None) -> None:
        self._writes_all = settings.log_level in ("DEBUG", "INFO")
        self._writes_failures = settings.log_level != "CRITICAL"
        self._with_address = settings.log_client_address
        self._with_messages = not settings.logs_json
        self._user_hash = hashlib.blake2b(key=_user_key(settings), digest_size=8)
        same = {"logger": LOGGER, "event": "request", "instance": instance_name()}
        same |= constants(settings)
        self._render = _json_renderer(same) if settings.logs_json else _human()
        # structlog's last step alone: whether a line is written is decided in ``write``.
        self._write_line = structlog.BytesLogger(file or _standard_error()).msg

    def write(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """Write the line of a request that has ended.

        Args:
            seconds: how long it took.
        """
        is_failed = context.status >= 500 or context.failures or context.reasons
        if not (self._writes_failures if is_failed else self._writes_all):
            return
        usage, method = context.usage, scope["method"]
        line = RequestLine(
            datetime.now(UTC),
            "error" if is_failed else "info",
            method if method in METHODS else "OTHER",
            context.route,
            context.status,
            _milliseconds(seconds),
            _milliseconds(usage.database),
            _milliseconds(usage.waiting),
            _milliseconds(usage.redis),
            usage.statements,
            usage.commands,
            context.request_id,
        )
        if context.trace_id:
            line.trace_id = context.trace_id
        if context.operation:
            line.operation = context.operation
        line.events, line.close_code = context.events, context.close_code
        if viewer := context.known_viewer:
            digest = self._user_hash.copy()
            digest.update(viewer.user_id.encode())
            line.user = digest.hexdigest()
        if self._with_address and (client := scope.get("client")):
            line.client = printable(client[0][:64])
        if context.error_types:
            line.errors = sorted(set(context.error_types))
        try:
            if is_failed:
                self._add_failure(line, context)
            self._write_line(self._render(line))
        except OSError:
            pass  # The disk is full, or nobody reads: no reason to fail requests.

    def _add_failure(self, line: RequestLine, context: RequestContext) -> None:
        reasons = dict.fromkeys(printable(reason[:MAX_REASON]) for reason in context.reasons)
        line.reason = "; ".join(reasons)
        describe = _with_message if self._with_messages else frames
        line.exception = "\n".join(map(describe, context.failures))
        # Their frames refer to the context.
        context.failures.clear()


def _milliseconds(seconds: float) -> float:
    # Rounded to tenths; ``round`` takes three times as long.
    return int(seconds * 1e4 + 0.5) / 10


def _with_message(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


Renderer = Callable[[RequestLine], bytes]


def _json_renderer(same: dict[str, str]) -> Renderer:
    """The renderer of lines as JSON.

    Args:
        same: members that all lines have.
    """
    encode = msgspec.json.Encoder().encode
    end = b"," + encode(same)[1:]

    def render(line: RequestLine) -> bytes:
        return encode(line)[:-1] + end

    return render


def _human() -> Renderer:
    renderer = human_renderer()

    def render(line: RequestLine) -> bytes:
        fields = {
            name: value
            for name, value in msgspec.structs.asdict(line).items()
            if value and name not in ("method", "route", "status", "ms", "exception")
        }
        fields["timestamp"] = rfc3339(line.timestamp)
        what = f"{line.method} {line.route or '(no route)'} {line.status} {line.ms} ms"
        text = renderer(None, line.level, {"event": what, **fields})
        return "\n".join(filter(None, (text, line.exception))).encode(errors="backslashreplace")

    return render


def _user_key(settings: Settings) -> bytes:
    """The key of the users' hashes: derived from a secret that all instances share."""
    secret = settings.session_hash_secret
    candidates = [secret.get_secret_value().encode()] if secret else settings.signing_secrets
    if not candidates and settings.database_url:
        # It has a password, usually.
        candidates = [settings.database_url.get_secret_value().encode()]
    source = candidates[0] if candidates else b""
    return hashlib.blake2b(source, person=b"twofold log user").digest()


def _standard_error() -> BinaryIO:
    # The descriptor, not ``sys.stderr``: a program may have put something else in its place.
    try:
        return open(2, "wb", closefd=False)
    except OSError:
        return open(os.devnull, "wb")
