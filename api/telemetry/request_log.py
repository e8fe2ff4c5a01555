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
from typing import Any, BinaryIO, Final

import msgspec
import structlog
from starlette.types import Scope
from structlog.typing import EventDict, WrappedLogger

from api.request import RequestContext
from api.settings import Settings
from api.telemetry.build import instance_name
from api.telemetry.log_lines import constants, frames, human_renderer, printable, rfc3339

LOGGER: Final = "twofold.request"

METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
"""Further ones are written as ``OTHER``: a client can make up any number."""

MAX_REASON: Final = 300
"""Characters of the reason of a failure."""


class RequestLog:
    """Writes a line for each request: INFO, or ERROR if something of ours failed.

    Args:
        file: where lines go; ``None`` for standard error.
    """

    def __init__(self, settings: Settings, file: BinaryIO | None = None) -> None:
        self._writes_all = settings.log_level in ("DEBUG", "INFO")
        self._is_critical_only = settings.log_level == "CRITICAL"
        self._with_address = settings.log_client_address
        self._user_hash = hashlib.blake2b(key=_user_key(settings), digest_size=8)
        self._file = file or _standard_error()
        logger = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[_json if settings.logs_json else _human()],
            wrapper_class=structlog.make_filtering_bound_logger("INFO"),
            context_class=dict,
        )
        same = {"instance": instance_name(), **constants(settings)} if settings.logs_json else {}
        self._log = logger.bind(**same)

    def write(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """Write the line of a request that has ended.

        Args:
            seconds: how long it took.
        """
        is_failed = context.status >= 500 or context.failures or context.reasons
        if self._is_critical_only or not (is_failed or self._writes_all):
            return
        usage, method = context.usage, scope["method"]
        fields: dict[str, Any] = {
            "method": method if method in METHODS else "OTHER",
            "route": context.route,
            "status": context.status,
            "ms": round(seconds * 1e3, 1),
            "database_ms": round(usage.database * 1e3, 1),
            "waiting_ms": round(usage.waiting * 1e3, 1),
            "redis_ms": round(usage.redis * 1e3, 1),
            "database_trips": usage.statements,
            "redis_trips": usage.commands,
            "request_id": context.request_id,
        }
        if context.operation:
            fields["operation"] = context.operation
        if viewer := context.known_viewer:
            digest = self._user_hash.copy()
            digest.update(viewer.user_id.encode())
            fields["user"] = digest.hexdigest()
        if self._with_address and (client := scope.get("client")):
            fields["client"] = printable(client[0][:64])
        if context.error_types:
            fields["errors"] = sorted(set(context.error_types))
        try:
            if is_failed:
                self._log.error("request", **fields, **_failure(context))
            else:
                self._log.info("request", **fields)
        except OSError:
            pass  # The disk is full, or nobody reads: no reason to fail requests.


def _failure(context: RequestContext) -> dict[str, Any]:
    """Why a request failed. The exceptions are released: their frames refer to the context."""
    fields: dict[str, Any] = {}
    if context.reasons:
        reasons = dict.fromkeys(printable(reason[:MAX_REASON]) for reason in context.reasons)
        fields["reason"] = "; ".join(reasons)
    if context.failures:
        fields["exceptions"] = [*context.failures]
        context.failures.clear()
    return fields


def _json(_: WrappedLogger, level: str, event: EventDict) -> bytes:
    if "exceptions" in event:
        event["exception"] = "\n".join(map(frames, event.pop("exceptions")))
    return _encode({"timestamp": datetime.now(UTC), "level": level, "logger": LOGGER, **event})


_encode: Final = msgspec.json.Encoder().encode


def _human() -> Callable[[WrappedLogger, str, EventDict], bytes]:
    renderer = human_renderer()

    def render(logger: WrappedLogger, level: str, event: EventDict) -> bytes:
        what = f"{event.pop('method')} {event.pop('route') or '(no route)'}"
        errors: list[BaseException] = event.pop("exceptions", [])
        fields = {name: value for name, value in event.items() if value not in (0, [])}
        fields |= {
            "timestamp": rfc3339(datetime.now(UTC).timestamp()),
            "level": level,
            "event": f"{what} {fields.pop('status', 0)} {fields.pop('ms', 0)} ms",
        }
        lines = [renderer(logger, level, fields)]
        lines += ["".join(traceback.format_exception(error)).rstrip() for error in errors]
        return "\n".join(lines).encode(errors="backslashreplace")

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
