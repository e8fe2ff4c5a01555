"""Traces: the spans of a request, as a collector gets them by OTLP over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import api.telemetry.traces
from api.app import create_app
from api.settings import SettingsError, load
from persistence import tasks
from persistence.embedded.valkey import valkey
from tests.conftest import ROOT, new_client, settings_of_tests
from tests.log_lines import LogLines
from tests.people import HASH_SECRET, sign_in
from tests.surfaces import RestSurface

TRACE = "0af7651916cd43dd8448eb211c80319c"
EXPORTERS_TIMEOUT = 10
"""Seconds that OpenTelemetry's exporter waits for a response."""
PARENT = "b7ad6b7169203331"


class Collector:
    """A collector: what it has received."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        self.url = ""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    @property
    def resource(self) -> dict[str, str]:
        attributes = self.received[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}


def attributes_of(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            collector.received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@contextmanager
def silent_collector() -> Iterator[str]:
    """The URL of a collector that accepts connections, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def traced(
    endpoint: str, database_url: str, sql: asyncpg.Connection, **values: object
) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of an app that sends its traces there; at the end all are sent."""
    settings = settings_of_tests(
        database_url=database_url, otel_exporter_otlp_endpoint=endpoint, **values
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), new_client(app) as client:
        ada = await sign_in(sql, RestSurface(client), "ada", HASH_SECRET)
        client.headers["Authorization"] = f"Bearer {ada.token}"
        yield client


async def test_a_request_has_spans_for_admission_statements_and_redis(
    collector: Collector, database_url: str, sql: asyncpg.Connection, log: LogLines
) -> None:
    with valkey() as redis:
        values = {"rate_limit_enabled": True, "redis_url": redis.url}
        async with traced(collector.url, database_url, sql, **values) as client:
            await client.post(
                "/tasks", json={"title": "a secret title"}, headers={"X-Request-ID": "the-request"}
            )

    [request] = collector.named("POST /tasks")
    [admission] = collector.named("admission")
    [redis_call] = collector.named("EVALSHA")
    [insert] = collector.named("INSERT") or collector.named("WITH")
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes_of(request) == {
        "http.request.method": "POST",
        "http.route": "/tasks",
        "http.response.status_code": 201,
        "twofold.request_id": "the-request",
    }
    assert admission.parent_span_id == insert.parent_span_id == request.span_id
    assert redis_call.parent_span_id == admission.span_id
    assert attributes_of(insert)["db.system.name"] == "postgresql"
    assert {span.trace_id for span in (request, admission, redis_call, insert)} == {
        request.trace_id
    }
    for span in (admission, redis_call, insert):
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano < span.end_time_unix_nano <= request.end_time_unix_nano
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 600
    assert b"a secret title" not in b"".join(map(bytes, map(serialized, collector.received)))
    [line] = log.requests()
    assert line["trace_id"] == request.trace_id.hex()


def serialized(request: ExportTraceServiceRequest) -> bytes:
    return bytes(request.SerializeToString())


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str]) -> LogLines:
    return LogLines(capfd)


async def test_a_graphql_span_has_the_name_of_its_operation(
    collector: Collector, database_url: str, sql: asyncpg.Connection
) -> None:
    async with traced(collector.url, database_url, sql) as client:
        document = "query Mine($first: Int) { tasks(first: $first) { totalCount } }"
        await client.post("/graphql", json={"query": document, "variables": {"first": 7}})

    [span] = collector.named("query Mine")
    assert attributes_of(span)["graphql.operation.name"] == "Mine"
    assert attributes_of(span)["http.route"] == "/graphql"


async def test_the_trace_of_the_client_goes_on(
    collector: Collector, database_url: str, sql: asyncpg.Connection
) -> None:
    async with traced(collector.url, database_url, sql) as client:
        await client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

    [span] = collector.named("GET /health")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "traceparent",
    ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "x" * 5000, f"ff-{TRACE}-{PARENT}-01"],
)
async def test_an_invalid_traceparent_is_ignored(
    traceparent: str, collector: Collector, database_url: str, sql: asyncpg.Connection
) -> None:
    async with traced(collector.url, database_url, sql) as client:
        await client.get("/health", headers={"traceparent": traceparent})

    [span] = collector.named("GET /health")
    assert span.parent_span_id == b""


async def test_a_client_that_does_not_sample_is_not_traced(
    collector: Collector, database_url: str, sql: asyncpg.Connection
) -> None:
    async with traced(collector.url, database_url, sql) as client:
        await client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        await client.get("/health/ready")

    assert {span.name for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER} == {
        "GET /health/ready"
    }


async def test_a_failed_request_is_an_error_and_has_no_message_of_the_exception(
    collector: Collector,
    database_url: str,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("a secret")

    async with traced(collector.url, database_url, sql) as client:
        monkeypatch.setattr(tasks, "list_changed_page", fail)
        await client.get("/tasks")
        await client.get("/tasks/999")

    [failed] = collector.named("GET /tasks")
    [missing] = collector.named("GET /tasks/{task_id}")
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(failed)["error.type"] == "internal_error"
    assert missing.status.code == Status.STATUS_CODE_UNSET
    assert b"a secret" not in b"".join(map(serialized, collector.received))


async def test_the_resource_says_what_runs(
    collector: Collector,
    database_url: str,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tasks")
    async with traced(collector.url, database_url, sql) as client:
        await client.get("/health")

    assert collector.resource["service.name"] == "tasks"
    assert collector.resource["service.version"]


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_collector_that_is_away_delays_neither_requests_nor_the_end(
    is_silent: bool, database_url: str, sql: asyncpg.Connection
) -> None:
    with silent_collector() as url:
        endpoint = url if is_silent else "http://127.0.0.1:1"
        async with traced(endpoint, database_url, sql) as client:
            statuses = {(await client.get("/tasks")).status_code for _ in range(600)}
            began = time.monotonic()
        ended = time.monotonic()

    assert statuses == {200}
    assert ended - began < EXPORTERS_TIMEOUT


def test_what_a_collector_answers_after_the_end_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.telemetry.traces, "CLOSE_SECONDS", 0.05)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    before = set(threading.enumerate())

    async def serve(endpoint: str) -> None:
        app = create_app(settings_of_tests(
            database_url="postgresql://nobody@127.0.0.1:1/nothing",
            request_deadline_seconds=0.05,
            otel_exporter_otlp_endpoint=endpoint,
        ))  # fmt: skip
        async with app.router.lifespan_context(app), new_client(app) as client:
            await client.get("/tasks", headers={"Authorization": "Bearer x"})

    with silent_collector() as endpoint:
        asyncio.run(serve(endpoint))
        left = set(threading.enumerate()) - before
        for thread in left:
            thread.join(EXPORTERS_TIMEOUT)

    assert left
    assert failures == []


async def test_without_a_collector_there_are_no_traces(database_url: str, log: LogLines) -> None:
    app = create_app(settings_of_tests(database_url=database_url))
    async with new_client(app) as client:
        await client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

    assert app.traces is None  # type: ignore[attr-defined]
    assert "trace_id" not in log.requests()[-1]


WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry.exporter"] = None
from api.cli import main
sys.exit(main(["serve"]))
"""


def test_without_the_extra_an_endpoint_is_rejected_at_the_start(tmp_path: Path) -> None:
    environment = os.environ | {
        "DATABASE_URL": "postgresql://a@b/c",
        "SESSION_HASH_SECRET": HASH_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr == (
        "The settings cannot be used:\n"
        "  OTEL_EXPORTER_OTLP_ENDPOINT: It needs the extra `otel`: pip install 'twofold[otel]'.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [("OTEL_PROPAGATORS", "b3", None), ("OTEL_BSP_MAX_QUEUE_SIZE", "10", "max_queue_size")],
)
def test_variables_of_opentelemetry_end_a_start_with_a_sentence_or_not_at_all(
    variable: str, value: str, says: str | None
) -> None:
    environment = os.environ | {
        "DATABASE_URL": "postgresql://a@b/c",
        "SESSION_HASH_SECRET": HASH_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
        variable: value,
    }
    made = "from api.settings import SettingsError\nfrom api.app import create_app\n"
    made += "try:\n    create_app()\nexcept SettingsError as error:\n    print(error.problems)"
    done = subprocess.run(
        [sys.executable, "-c", made],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stderr == ""
    assert (says in done.stdout) if says else (done.stdout == "")


@pytest.mark.parametrize("url", ["localhost:4318", "grpc://localhost:4317", "http://", "x"])
def test_an_endpoint_that_is_no_url_is_rejected(url: str) -> None:
    assert refusal(url) == (
        "OTEL_EXPORTER_OTLP_ENDPOINT: It is not a URL like http://localhost:4318."
    )


def refusal(endpoint: str) -> str:
    """The only problem with the settings."""
    with pytest.raises(SettingsError) as error:
        load(
            _env_file=None,
            database_url="postgresql://a@b/c",
            session_hash_secret=HASH_SECRET,
            otel_exporter_otlp_endpoint=endpoint,
        )
    [problem] = error.value.problems
    return problem
