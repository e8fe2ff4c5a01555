"""Traces of requests for OpenTelemetry, with the extra `otel`.

While a request runs, only times are noted. When it has ended its spans are made and put into a
bounded queue, from which a thread sends them: a collector that is away, or slow, delays no request,
and beyond the queue spans are dropped. Spans have no more of what a client sent than a log line.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.types import Scope

from api.headers import header_values
from api.request import RequestContext
from api.settings import Settings
from api.telemetry.build import Build, instance_name
from api.telemetry.request_log import METHODS
from persistence.usage import Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

MAX_STEPS: Final = 200
"""Statements, waits and commands of one request that become spans."""

SHORTEST_WAIT: Final = 0.001
"""Seconds that a statement has to wait for a connection for the wait to become a span."""

COMMAND: Final = "EVALSHA"
"""The only command that requests send to Redis."""

CLOSE_SECONDS: Final = 2.0
"""Seconds that the end of the process waits for the last spans to be sent."""


class TracedUsage(Usage):
    """Usage that also notes when."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, str, float, float]] = []

    def add_wait(self, began: float, ended: float) -> None:
        """Add a wait for a connection."""
        super().add_wait(began, ended)
        if ended - began >= SHORTEST_WAIT:
            self._add("wait for a connection", "", began, ended)

    def add_statement(self, sql: str, began: float, ended: float) -> None:
        """Add an attempt to run a statement."""
        super().add_statement(sql, began, ended)
        self._add(sql.split(None, 1)[0].upper(), sql, began, ended)

    def add_command(self, began: float, ended: float) -> None:
        """Add a command of Redis."""
        super().add_command(began, ended)
        self._add(COMMAND, "", began, ended)

    def _add(self, name: str, sql: str, began: float, ended: float) -> None:
        if len(self.steps) < MAX_STEPS:
            self.steps.append((name, sql, began, ended))


class Traces:
    """Makes the spans of requests, and sends them to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

    def __init__(self, settings: Settings, build: Build) -> None:
        # Imported here: without the extra, and without the setting, they are not there.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert settings.otel_exporter_otlp_endpoint is not None
        endpoint = settings.otel_exporter_otlp_endpoint.get_secret_value().rstrip("/")
        resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME") or "twofold",
                "service.version": build.version,
                "service.instance.id": instance_name(),
            }
        )
        # ``close`` ends it, in bounded time.
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("twofold", build.version)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """Make the spans of a request that has ended, and note its trace's id in its context."""
        from opentelemetry import trace

        # From the clock of the steps to nanoseconds since 1970.
        now = time.monotonic()
        offset = time.time_ns() - int(now * 1e9)

        def instant(at: float) -> int:
            return offset + int(at * 1e9)

        span = self._tracer.start_span(
            _name(scope, context),
            self._parent(scope),
            trace.SpanKind.SERVER,
            _attributes(scope, context),
            start_time=instant(now - seconds),
        )
        context.trace_id = f"{span.get_span_context().trace_id:032x}"
        if span.is_recording():
            if context.status >= 500 or context.failures or context.reasons:
                span.set_status(trace.StatusCode.ERROR)
            self._add_steps(trace.set_span_in_context(span), context, now - seconds, instant)
        span.end(instant(now))

    def _add_steps(
        self,
        parent: Context,
        context: RequestContext,
        began: float,
        instant: Callable[[float], int],
    ) -> None:
        from opentelemetry import trace

        within = parent
        if context.admitted_at:
            admission = self._tracer.start_span("admission", parent, start_time=instant(began))
            admission.end(instant(context.admitted_at))
            within = trace.set_span_in_context(admission)
        assert isinstance(context.usage, TracedUsage)
        for name, sql, start, end in context.usage.steps:
            attributes: dict[str, str] = {}
            if sql:
                attributes = {"db.system.name": "postgresql", "db.query.text": sql}
            elif name == COMMAND:
                attributes = {"db.system.name": "redis"}
            step = self._tracer.start_span(
                name,
                within if end <= context.admitted_at else parent,
                trace.SpanKind.CLIENT if attributes else trace.SpanKind.INTERNAL,
                attributes,
                start_time=instant(start),
            )
            step.end(instant(end))

    def _parent(self, scope: Scope) -> Context | None:
        """The client's span (https://www.w3.org/TR/trace-context/); ``None`` if it names none."""
        parents = header_values(scope, b"traceparent")
        if len(parents) != 1:
            return None
        states = header_values(scope, b"tracestate")
        carrier = {"traceparent": parents[0].decode("latin-1")}
        if states:
            carrier["tracestate"] = b",".join(states).decode("latin-1")
        return self._propagator.extract(carrier)

    async def close(self) -> None:
        """Send what is left, for at most ``CLOSE_SECONDS``."""
        # A thread that nobody joins: the collector may never answer, and the event loop end sooner.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        until = time.monotonic() + CLOSE_SECONDS
        while closing.is_alive() and time.monotonic() < until:  # noqa: ASYNC110  # a thread ends
            await asyncio.sleep(0.02)


def _name(scope: Scope, context: RequestContext) -> str:
    if context.kind:
        return f"{context.kind} {context.operation}".strip()
    return f"{_method(scope)} {context.route}".strip()


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else "_OTHER"


def _attributes(scope: Scope, context: RequestContext) -> dict[str, str | int]:
    """https://opentelemetry.io/docs/specs/semconv/http/http-spans/"""
    attributes: dict[str, str | int] = {
        "http.request.method": _method(scope),
        "http.response.status_code": context.status,
        "twofold.request_id": context.request_id,
    }
    if context.route:
        attributes["http.route"] = context.route
    if context.kind:
        attributes["graphql.operation.type"] = context.kind
        attributes["graphql.operation.name"] = context.operation
    if context.error_types:
        attributes["error.type"] = context.error_types[0]
    return attributes
