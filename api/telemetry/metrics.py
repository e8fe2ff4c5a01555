"""What a worker counts of its requests and its parts, for Prometheus.

Labels are bounded: routes, kinds of operations, statuses by class, and the types of the catalogue.
What a client names, such as a GraphQL operation, is no label. Parts of the app count by themselves;
twice a second their numbers are copied.

Without prometheus_client: with its files for several processes, what a request adds here in 2 µs
took 20, and each worker that ever ran left a file behind that is read again and again.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from api.charges import Kind
from api.errors import CATALOGUE
from api.request import RequestContext
from api.state import State
from api.telemetry.build import Build
from api.telemetry.series import FOLDER_VARIABLE, Family, Labels, Sheet

INTERVAL: Final = 0.5
"""Seconds between two readings of the parts, and of the event loop's lag."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

STATUSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""By the first digit; ``none`` if the client went away before there was a response."""

GRAPHQL: Final = "/graphql"

OTHER: Final = "other"


class Documents(Protocol):
    """The GraphQL documents of the app (``graphql_schema.compiled.CompiledSchema``)."""

    @property
    def cached_documents(self) -> int: ...

    @property
    def cached_bytes(self) -> int: ...

    @property
    def statistics(self) -> Counts: ...


class Counts(Protocol):
    """What they count."""

    hits: int
    misses: int
    fallbacks: int


class Metrics:
    """The metrics of one worker.

    Args:
        folder: where its numbers go.
        routes: of the app.
        error_types: the types of errors that are not in the catalogue.
    """

    def __init__(
        self,
        folder: Path,
        routes: Iterable[BaseRoute],
        documents: Documents,
        build: Build,
        error_types: Iterable[str] = (),
    ) -> None:
        operations = [*_operations(routes)]
        types = [*dict.fromkeys([*(each.name for each in CATALOGUE.values()), *error_types, OTHER])]
        sheet = self._sheet = Sheet(folder, _families(operations, types, build))
        self._values = sheet.values
        self._documents = documents
        first = STATUSES[0]
        self._requests = {
            (protocol, operation): sheet.place(
                "twofold_request_seconds", protocol=protocol, operation=operation, status=first
            )
            for protocol, operation in operations
        }
        self._errors = {name: sheet.place("twofold_errors_total", type=name) for name in types}
        self._charges = {
            (kind, is_allowed): sheet.place(
                "twofold_budget_decisions_total",
                kind=kind.value,
                outcome="admitted" if is_allowed else "refused",
            )
            for kind in Kind
            for is_allowed in (True, False)
        }
        self._accepted, self._refused = (
            sheet.place("twofold_authentications_total", outcome=outcome)
            for outcome in ("accepted", "refused")
        )
        self._replays = sheet.place("twofold_idempotent_replays_total")
        self._streams = sheet.place("twofold_streams_ended_total")
        self._sockets = sheet.place("twofold_sockets_ended_total")
        self._events = sheet.place("twofold_stream_events_total")
        self._set("twofold_build_info", 1, version=build.version, commit=build.commit)

    def record(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """Count a request, a stream or a socket that has ended."""
        values = self._values
        if context.events is None:
            place = self._place_of_request(scope["method"], context)
            values[place + bisect_left(SECONDS, seconds)] += 1
            values[place + len(SECONDS) + 1] += seconds
        else:
            # Its seconds say how long a client stayed, not how long it waited.
            values[self._sockets if scope["type"] == "websocket" else self._streams] += 1
            values[self._events] += context.events
        for charge in context.charges:
            values[self._charges[charge.cost.kind, charge.window.allowed]] += 1
        if context.error_types:
            for name in set(context.error_types):
                values[self._errors.get(name) or self._errors[OTHER]] += 1
        if "authentication_error" in context.error_types:
            values[self._refused] += 1
        elif context.known_viewer is not None and not context.reasons:
            values[self._accepted] += 1
        for write in context.idempotent_writes.values():
            values[self._replays] += write.is_replayed

    def _place_of_request(self, method: str, context: RequestContext) -> int:
        if context.route == GRAPHQL:
            place = self._requests["graphql", context.kind or "rejected"]
        else:
            operation = f"{'GET' if method == 'HEAD' else method} {context.route}"
            place = self._requests.get(("rest", operation)) or self._requests["rest", "none"]
        return place + context.status // 100 * (len(SECONDS) + 2)

    @contextmanager
    def reading(self, state: State) -> Iterator[None]:
        """Read the parts of the app every ``INTERVAL``, and once more at the end."""
        loop = asyncio.get_running_loop()
        self.read(state)
        self._wait(loop, state)
        try:
            yield
        finally:
            self._timer.cancel()
            self.read(state)

    def _wait(self, loop: asyncio.AbstractEventLoop, state: State) -> None:
        due = loop.time() + INTERVAL
        self._timer = loop.call_at(due, self._tick, loop, state, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, state: State, due: float) -> None:
        self._sheet.observe("twofold_event_loop_lag_seconds", max(loop.time() - due, 0.0))
        self.read(state)
        self._wait(loop, state)

    def read(self, state: State) -> None:
        """Copy what the parts of the app have counted."""
        pool, budget, documents = state.pool, state.budget, self._documents
        self._set("twofold_pool_connections", pool.in_use, state="in_use")
        self._set("twofold_pool_connections", pool.idle, state="idle")
        self._set("twofold_pool_size", pool.most)
        self._set("twofold_pool_waiting", pool.waiting)
        self._set("twofold_pool_waits_total", pool.waits)
        self._set("twofold_pool_wait_seconds_total", pool.wait_seconds)
        self._set("twofold_redis_degraded", budget.redis == "degraded")
        self._set("twofold_budget_local_decisions_total", budget.degraded_decisions)
        self._set("twofold_streams", len(state.live))
        self._set("twofold_sockets", len(state.live.sockets))
        self._set("twofold_hints_lost", state.hints is not None and state.hints.are_lost)
        self._set("twofold_draining", state.draining)
        self._set("twofold_workers", 1)
        self._set("twofold_documents", documents.cached_documents)
        self._set("twofold_documents_bytes", documents.cached_bytes)
        counts = documents.statistics
        self._set("twofold_document_lookups_total", counts.hits, outcome="hit")
        self._set("twofold_document_lookups_total", counts.misses, outcome="miss")
        self._set("twofold_graphql_fallbacks_total", counts.fallbacks)

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._values[self._sheet.place(name, **labels)] = value


def metrics_folder() -> Path | None:
    """Where workers count; ``None`` if nobody reads metrics."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


def _operations(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """The protocols and operations of all routes, and of requests that have no route."""
    for kind in ("query", "mutation", "rejected"):
        yield "graphql", kind
    for route in routes:
        if isinstance(route, Route) and route.path != GRAPHQL:
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield "rest", f"{method} {route.path_format}"
    yield "rest", "none"


def _families(
    operations: list[tuple[str, str]], types: Iterable[str], build: Build
) -> list[Family]:
    requests: list[Labels] = [
        (("protocol", protocol), ("operation", operation), ("status", status))
        for protocol, operation in operations
        for status in STATUSES
    ]
    decisions: list[Labels] = [
        (("kind", kind.value), ("outcome", outcome))
        for kind in Kind
        for outcome in ("admitted", "refused")
    ]
    built: Labels = (("version", build.version), ("commit", build.commit))
    return [
        Family("twofold_request_seconds", "Requests, and the seconds that they took.",
               "histogram", requests, SECONDS),
        Family("twofold_errors_total", "Requests whose response has an error of the type.",
               "counter", [(("type", name),) for name in types]),
        Family("twofold_authentications_total", "Requests with a valid session, and without.",
               "counter", _outcomes("accepted", "refused")),
        Family("twofold_budget_decisions_total", "Costs that were charged, and refused.",
               "counter", decisions),
        Family("twofold_budget_local_decisions_total",
               "Decisions of a worker alone, because Redis did not answer.", "counter"),
        Family("twofold_redis_degraded", "Workers that count by themselves, without Redis.",
               "gauge"),
        Family("twofold_idempotent_replays_total",
               "Writes that were answered with an earlier outcome.", "counter"),
        Family("twofold_pool_connections", "Connections to PostgreSQL.", "gauge",
               [(("state", "in_use"),), (("state", "idle"),)]),
        Family("twofold_pool_size", "The most connections that the pools may open.", "gauge"),
        Family("twofold_pool_waiting", "Statements that wait for a connection.", "gauge"),
        Family("twofold_pool_waits_total", "Statements that had to wait for one.", "counter"),
        Family("twofold_pool_wait_seconds_total", "The seconds that they waited.", "counter"),
        Family("twofold_event_loop_lag_seconds", "How late the event loop's timers are.",
               "histogram", buckets=LAG_SECONDS),
        Family("twofold_documents", "GraphQL documents in the caches.", "gauge"),
        Family("twofold_documents_bytes", "Their estimated bytes.", "gauge"),
        Family("twofold_document_lookups_total", "Documents that the cache had, and had not.",
               "counter", _outcomes("hit", "miss")),
        Family("twofold_graphql_fallbacks_total",
               "Values that the stock executor completed in place of a compiled function.",
               "counter"),
        Family("twofold_streams", "Streams that are open, also of WebSockets.", "gauge"),
        Family("twofold_sockets", "WebSockets that are open.", "gauge"),
        Family("twofold_streams_ended_total", "Streams of server-sent events that ended.",
               "counter"),
        Family("twofold_sockets_ended_total", "WebSockets that ended.", "counter"),
        Family("twofold_stream_events_total", "Events that they had received.", "counter"),
        Family("twofold_hints_lost",
               "Workers that get no hints of other instances' changes through Redis.", "gauge"),
        Family("twofold_draining", "Workers that shut down.", "gauge"),
        Family("twofold_workers", "Workers that run.", "gauge"),
        Family("twofold_build_info", "The build, always 1.", "gauge", [built], combine="max"),
    ]  # fmt: skip


def _outcomes(*names: str) -> list[Labels]:
    return [(("outcome", name),) for name in names]
